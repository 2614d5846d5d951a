//! The owner of a server changes, and changes back.

use crate::common::{Said, WebSocket};
use crate::{OWNER, Scene, start};

const OTHER: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";

/// The server again, on the same data, for this owner.
fn again(dir: &std::path::Path, owner: &str) -> Scene {
    Scene::of(start().set("OWNER", owner).data_dir(dir))
}

#[test]
fn a_token_that_was_answered_token_revoked_does_not_come_back_with_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let scene = again(dir.path(), OWNER);
    let [told, untold] = [scene.first(), scene.first()];
    let refused = scene.first();
    drop(scene);

    let scene = again(dir.path(), OTHER);
    let said =
        |token: &str| Said::read(&WebSocket::connect(scene.server.address, token).err().unwrap().answer);
    assert_eq!(said(&told.text("access_token")).error(), (401, "token_revoked"));
    assert_eq!(said(&told.text("access_token")).error(), (401, "token_revoked"));
    assert_eq!(scene.refresh(&refused.text("refresh_token")).error(), (400, "invalid_grant"));
    assert!(scene.opens(&scene.server.token), "tokens made by command are the machine's");
    drop(scene);

    let scene = again(dir.path(), OWNER);
    assert!(!scene.opens(&told.text("access_token")));
    assert_eq!(scene.refresh(&told.text("refresh_token")).error(), (400, "invalid_grant"));
    assert!(!scene.opens(&refused.text("access_token")));
    assert_eq!(scene.refresh(&refused.text("refresh_token")).error(), (400, "invalid_grant"));
    assert!(scene.opens(&untold.text("access_token")), "nobody was told that this one had ended");
}

#[test]
fn while_the_owner_is_not_known_a_token_is_refused_for_now_only() {
    let dir = tempfile::tempdir().unwrap();
    let scene = again(dir.path(), OWNER);
    let given = scene.first();
    drop(scene);
    let scene = again(dir.path(), "nobody.invalid");
    let answer = WebSocket::connect(scene.server.address, &given.text("access_token")).err().unwrap().answer;
    assert_eq!(Said::read(&answer).error(), (503, "owner_unknown"));
    drop(scene);
    assert!(again(dir.path(), OWNER).opens(&given.text("access_token")));
}
