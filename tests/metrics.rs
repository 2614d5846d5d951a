//! What monitoring sees: that it counts what real clients did, and that every figure is explained.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::peer::new_document;
use common::{Peer, Server, WebSocket, wait_for};

const DOCS: &str = include_str!("../docs/METRICS.md");

/// Samples by name and labels, as they are written.
fn scrape(server: &Server) -> BTreeMap<String, f64> {
    let (head, body) = server.admin_get("/metrics");
    assert!(head.contains("200") && head.contains("text/plain; version=0.0.4"), "{head}");
    let samples = body.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.into(), value.parse().unwrap()))
        .collect()
}

#[test]
fn every_figure_is_explained_and_served() {
    let server = Server::start();
    let (_, body) = server.admin_get("/metrics");
    let served: BTreeSet<(&str, &str)> =
        body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let rows = DOCS.lines().filter_map(|line| line.strip_prefix("| `groundmist_"));
    let explained: BTreeSet<(String, String)> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            assert!(cells.len() == 5 && cells[2..4].iter().all(|cell| !cell.is_empty()), "{row}");
            (format!("groundmist_{}", cells[0].trim_end_matches('`')), cells[1].to_owned())
        })
        .collect();
    let explained: BTreeSet<(&str, &str)> = explained.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
    assert_eq!(served, explained, "docs/METRICS.md and /metrics name the same, with the same type");
    for (name, kind) in served {
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        assert!(body.contains(&format!("# HELP {name} ")), "{name}");
    }
    let address = server.address.to_string();
    assert!(
        server.http("GET", "/metrics", &[]).starts_with("HTTP/1.1 404"),
        "not where apps connect: {address}"
    );
}

#[test]
fn the_counters_tell_what_clients_did() {
    let server = Server::start();
    let document = new_document();
    let (mut writer, mut reader) = (Peer::join(&server, "writer"), Peer::join(&server, "reader"));
    writer.store(document, "0", "value");
    reader.find(document, "0");
    for n in 1..5 {
        let key = n.to_string();
        writer.store(document, &key, "value");
        reader.until("the change", |peer| peer.get(document, &key).is_some());
    }
    assert_eq!(WebSocket::connect(server.address, "no-token").err().unwrap().status, 401);
    for _ in 0..2 {
        assert!(server.http("POST", "/authenticate", &[]).starts_with("HTTP/1.1 401"));
    }
    let expected = [
        ("groundmist_connections", 2.0),
        ("groundmist_documents_loaded", 1.0),
        ("groundmist_documents_stored", 1.0),
        ("groundmist_changes_in_total", 5.0),
        ("groundmist_changes_out_total", 5.0),
        // The first two come as whole documents, which automerge sends to who has told no heads yet.
        ("groundmist_relay_seconds_count", 3.0),
        ("groundmist_relay_seconds_bucket{le=\"+Inf\"}", 3.0),
        ("groundmist_sessions", 1.0),
        ("groundmist_authentications_total{result=\"no_credentials\"}", 2.0),
        ("groundmist_refused_connections_total{reason=\"token_invalid\"}", 1.0),
        ("groundmist_queue_length{queue=\"shard\"}", 0.0),
        ("groundmist_commit_failing", 0.0),
        ("groundmist_quarantines_total", 0.0),
        ("groundmist_refused_messages_total", 0.0),
        ("groundmist_panics_total", 0.0),
        (concat!("groundmist_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
    ];
    let mut last = BTreeMap::new();
    let differs = |last: &BTreeMap<String, f64>| {
        expected.iter().find(|(name, value)| last.get(*name) != Some(value)).copied()
    };
    // A shard tells its figures after it has sent what they count.
    wait_for("the figures", || {
        last = scrape(&server);
        let wrong = differs(&last);
        if let Some((name, value)) = wrong {
            eprintln!("{name} is {:?}, not yet {value}", last.get(name));
        }
        wrong.is_none().then_some(())
    });
    // The token, and five times a change, at least.
    let commits = last["groundmist_commits_total"];
    assert!(commits >= 6.0 && last["groundmist_commit_seconds_count"] >= commits, "{last:#?}");
    assert!(last["groundmist_relay_seconds_sum"] > 0.0, "{last:#?}");
    let buckets = |name: &str| -> Vec<f64> {
        // In the order of their bounds, as Prometheus wants them.
        let prefix = format!("{name}_bucket{{le=\"");
        let of = last.iter().filter_map(|(key, count)| Some((key.strip_prefix(&prefix)?, *count)));
        let mut of: Vec<(f64, f64)> = of
            .map(|(bound, count)| {
                (bound.trim_end_matches("\"}").replace("+Inf", "inf").parse().unwrap(), count)
            })
            .collect();
        of.sort_by(|a, b| a.0.total_cmp(&b.0));
        of.into_iter().map(|(_, count)| count).collect()
    };
    for name in ["groundmist_commit_seconds", "groundmist_relay_seconds"] {
        let counts = buckets(name);
        assert!(counts.len() == 15 && counts.is_sorted(), "{name}: {counts:?}");
    }
    let (memory, files) =
        (last["groundmist_process_resident_memory_bytes"], last["groundmist_process_open_files"]);
    assert!(memory > 1e6 && files > 5.0, "{last:#?}");
    assert!(last["groundmist_store_bytes"] > last["groundmist_store_dead_bytes"], "{last:#?}");
    let started = last["groundmist_process_start_time_seconds"];
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    assert!(started > now - 3600.0 && started <= now, "{started}");

    drop((writer, reader));
    wait_for("the connections to end", || (scrape(&server)["groundmist_connections"] == 0.0).then_some(()));
}
