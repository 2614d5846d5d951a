use super::*;
use crate::engine::AppShares;
use crate::types::Party;
use crate::web::receive::ReceiveBudget;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, DuplexStream};

const LIMIT: usize = 100_000;

/// A reader of a device's connection.
fn reader<'a>(
    io: DuplexStream,
    budget: &Arc<ReceiveBudget>,
    session: &str,
    liveness: &'a Liveness,
) -> MessageReader<'a, DuplexStream> {
    let slowest = pace::Slowest::new(1_000, Duration::from_secs(600), Duration::from_secs(30));
    let party = Party::new("xyz.example".parse().unwrap(), session, session);
    let mut reader = MessageReader::new(io, LIMIT, slowest, budget.hold(party.clone()), liveness);
    reader.joined(AppShares::default().of(&party.approval, 1));
    reader
}

/// Polled as often as the future may let others have their turn.
async fn is_pending<F: Future>(future: &mut Pin<Box<F>>) -> bool {
    poll_fn(|cx| std::task::Poll::Ready((0..9).all(|_| future.as_mut().poll(cx).is_pending()))).await
}

/// A masked frame with a length of the given width in bytes.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length @ 126..65536 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A message of so many bytes that says in its beginning where its payload is.
fn message_of(bytes: usize) -> Vec<u8> {
    let mut message: Vec<u8> = (0..bytes as u32).map(|n| (n % 251) as u8).collect();
    message[..11].copy_from_slice(b"\xa1\x64data\x5a\0\x0f\xff\xff");
    message
}

/// What a reader makes of these bytes, arriving in pieces of `piece` bytes, until it errs or the bytes end.
async fn read(bytes: &[u8], piece: usize) -> (Vec<Incoming>, ReadError) {
    let (mut client, server) = tokio::io::duplex(64);
    let bytes = bytes.to_vec();
    let sender = tokio::spawn(async move {
        for part in bytes.chunks(piece) {
            if client.write_all(part).await.is_err() {
                return;
            }
        }
    });
    let liveness = Liveness::default();
    let mut reader = reader(server, &ReceiveBudget::new(LIMIT, Arc::default()), "device", &liveness);
    let mut got = Vec::new();
    let error = loop {
        match reader.next().await {
            Ok(incoming) => got.push(incoming),
            Err(error) => break error,
        }
    };
    drop(reader);
    sender.await.unwrap();
    (got, error)
}

fn message(payload: &[u8]) -> Incoming {
    Incoming::Message(Bytes::copy_from_slice(payload))
}

#[tokio::test]
async fn messages_fragments_and_control_frames_in_any_cut() {
    let big: Vec<u8> = (0..70_000u32).map(|i| i as u8).collect();
    let bytes = [
        frame(0x82, b"one"),
        frame(0x02, b"fr"),
        frame(0x89, b"ping"),
        frame(0x00, b""),
        frame(0x80, b"agment"),
        frame(0x82, &[7; 300]),
        frame(0x82, &big),
        frame(0x8a, b""),
        frame(0x82, b""),
        frame(0x88, &[0x03, 0xe8, b'x']),
    ]
    .concat();
    for piece in [1, 3, 1000, usize::MAX] {
        let (got, error) = read(&bytes, piece).await;
        let wanted = [
            message(b"one"),
            Incoming::Ping(Bytes::from_static(b"ping")),
            message(b"fragment"),
            message(&[7; 300]),
            message(&big),
            Incoming::Pong,
            message(b""),
            Incoming::Close(Some(1000)),
        ];
        assert_eq!(got, wanted, "pieces of {piece}");
        assert!(matches!(error, ReadError::HungUp));
    }
}

#[tokio::test]
async fn violations_are_refused() {
    let unmasked = vec![0x82, 1, b'x'];
    for bad in [
        unmasked,
        frame(0xc2, b"x"),
        frame(0x83, b"x"),
        frame(0x80, b"x"),
        [frame(0x02, b"x"), frame(0x82, b"y")].concat(),
        frame(0x09, b"x"),
        frame(0x89, &[0; 126]),
        frame(0x88, b"x"),
        frame(0x88, &[0x03, 0xed]),
        frame(0x88, &[0x03, 0xe8, 0xff]),
    ] {
        let (got, error) = read(&bad, usize::MAX).await;
        assert!(got.is_empty() && matches!(error, ReadError::Violation(_)), "{bad:?}: {error}");
    }
    assert!(matches!(read(&frame(0x81, b"text"), 9).await.1, ReadError::Text));
    assert!(matches!(read(&frame(0x82, b"cut")[..6], 9).await.1, ReadError::Io(_)));
}

#[tokio::test]
async fn what_is_above_the_limit_is_skipped_and_what_follows_is_read() {
    let large = message_of(LIMIT + 1);
    let whole = frame(0x82, &large);
    let parts: Vec<u8> = [
        frame(0x02, &large[..60_000]),
        frame(0x00, b""),
        frame(0x89, b"ping"),
        frame(0x00, &large[60_000..100_000]),
        frame(0x80, &large[100_000..]),
    ]
    .concat();
    for (too_large, pings) in [(whole, 0), (parts, 1)] {
        for piece in [1_000, usize::MAX] {
            let bytes = [&too_large[..], &frame(0x82, b"next"), &frame(0x82, &large[..LIMIT])].concat();
            let (got, error) = read(&bytes, piece).await;
            assert!(matches!(error, ReadError::HungUp), "{error}");
            let [before @ .., Incoming::TooLarge(skipped), next, largest] = &got[..] else {
                panic!("{got:?}")
            };
            assert_eq!((before.len(), skipped), (pings, &Skipped::after(&large)));
            assert_eq!((next, largest), (&message(b"next"), &message(&large[..LIMIT])));
        }
    }
}

#[tokio::test]
async fn a_message_of_any_claim_is_skipped_as_long_as_it_comes() {
    let claiming =
        |claim: u64| [&[0x82, 0xff][..], &claim.to_be_bytes(), &[0; 4], &message_of(50_000)].concat();
    for claim in [LIMIT as u64 + 1, MOST_SKIPPED] {
        let (got, error) = read(&claiming(claim), usize::MAX).await;
        assert!(got.is_empty() && matches!(error, ReadError::Io(_)), "{error}");
    }
    for claim in [MOST_SKIPPED + 1, u64::MAX] {
        let (got, error) = read(&claiming(claim), usize::MAX).await;
        assert!(got.is_empty() && matches!(error, ReadError::TooLarge(LIMIT)), "{error}");
    }
    // What does not say what it is about is not read to its end.
    let unclear = [&claiming(MOST_SKIPPED)[..14], &[7; 50_000]].concat();
    assert!(matches!(read(&unclear, 1_000).await, (got, ReadError::Unclear(LIMIT)) if got.is_empty()));
    // Frames of an unfinished message that fit each by itself.
    let endless: Vec<u8> = std::iter::once(frame(0x02, &message_of(60_000)))
        .chain(std::iter::repeat_n(frame(0x00, &[0; 60_000]), 9))
        .flatten()
        .collect();
    assert!(matches!(read(&endless, usize::MAX).await, (got, ReadError::Io(_)) if got.is_empty()));
}

#[tokio::test]
async fn before_the_reader_is_told_to_skip_sizes_are_refused_on_their_claim() {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let (budget, liveness) = (ReceiveBudget::new(LIMIT, Arc::default()), Liveness::default());
    let mut reader = reader(server, &budget, "device", &liveness);
    reader.app = None;
    client.write_all(&frame(0x82, &vec![0; LIMIT + 1])[..20]).await.unwrap();
    assert!(matches!(reader.next().await, Err(ReadError::TooLarge(LIMIT))));
}

#[tokio::test]
async fn what_is_skipped_takes_no_memory() {
    let budget = ReceiveBudget::new(16 * LIMIT, Arc::default());
    let liveness = Liveness::default();
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let mut reader = reader(server, &budget, "device", &liveness);
    let whole = frame(0x82, &message_of(LIMIT + 1));
    {
        let mut next = Box::pin(reader.next());
        client.write_all(&frame(0x02, &message_of(LIMIT))).await.unwrap();
        assert!(is_pending(&mut next).await);
        assert!(budget.held() >= LIMIT, "{}", budget.held());
        client.write_all(&frame(0x00, &vec![5; LIMIT])).await.unwrap();
        assert!(is_pending(&mut next).await);
        assert_eq!(budget.held(), 0, "it is above the limit now");
        client.write_all(&frame(0x80, b"")).await.unwrap();
        assert!(matches!(next.await, Ok(Incoming::TooLarge(skipped)) if skipped.bytes() == 2 * LIMIT as u64));
    }
    let mut next = Box::pin(reader.next());
    client.write_all(&whole[..LIMIT]).await.unwrap();
    assert!(is_pending(&mut next).await);
    assert_eq!(budget.held(), 0, "its head said so");
    drop(next);
    assert!(reader.message.capacity() == 0 && reader.pending.capacity() == 0);
}

#[tokio::test]
async fn what_an_app_sends_is_read_in_its_turns() {
    for bytes in [LIMIT, 8 * LIMIT] {
        let (budget, liveness) = (ReceiveBudget::new(16 * LIMIT, Arc::default()), Liveness::default());
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let mut reader = reader(server, &budget, "one", &liveness);
        let apps = AppShares::default();
        let [app, _other] = ["one", "two"].map(|name| {
            let party = Party::new("xyz.example".parse().unwrap(), name, name);
            apps.of(&party.approval, 1)
        });
        reader.joined(app.clone());
        client.write_all(&frame(0x82, &message_of(bytes))).await.unwrap();
        app.use_up_receiving(Duration::from_millis(500));
        {
            let mut next = Box::pin(reader.next());
            assert!(is_pending(&mut next).await && liveness.is_paused(), "{bytes}");
            next.await.unwrap();
        }
        assert!(!liveness.is_paused());
    }
}

#[tokio::test]
async fn a_claim_reserves_nothing_and_what_arrived_counts_until_it_was_handed_on() {
    let budget = ReceiveBudget::new(16 * LIMIT, Arc::default());
    let liveness = Liveness::default();
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let mut reader = reader(server, &budget, "device", &liveness);
    let whole = frame(0x82, &vec![5; 90_000]);
    client.write_all(&whole[..1_000]).await.unwrap();
    {
        let mut next = Box::pin(reader.next());
        assert!(is_pending(&mut next).await);
        assert_eq!(budget.held(), 0, "small so far");
        client.write_all(&whole[1_000..40_000]).await.unwrap();
        assert!(is_pending(&mut next).await);
        assert!((40_000..80_000).contains(&budget.held()), "{}", budget.held());
        client.write_all(&whole[40_000..]).await.unwrap();
        assert_eq!(next.await.unwrap(), message(&vec![5; 90_000]));
    }
    assert_eq!(budget.held(), 90_000);
    client.write_all(&frame(0x82, &[1; 20_000])[..1_000]).await.unwrap();
    let mut next = Box::pin(reader.next());
    assert!(is_pending(&mut next).await);
    drop(next);
    assert_eq!(budget.held(), 0);
    assert!(reader.message.capacity() <= SMALL_MESSAGE && reader.pending.capacity() == 0);
}

#[tokio::test]
async fn a_message_waits_unread_for_its_share() {
    let budget = ReceiveBudget::new(LIMIT, Arc::default());
    let (one, other) = (Liveness::default(), Liveness::default());
    let whole = frame(0x82, &vec![5; 90_000]);
    let (mut client_of_one, server) = tokio::io::duplex(1 << 20);
    let mut one_reader = reader(server, &budget, "one", &one);
    let (mut client_of_other, server) = tokio::io::duplex(1 << 20);
    let mut other_reader = reader(server, &budget, "other", &other);
    client_of_one.write_all(&whole[..80_000]).await.unwrap();
    client_of_other.write_all(&whole).await.unwrap();
    {
        // The first one to need it has the large slot.
        let mut first = Box::pin(one_reader.next());
        assert!(is_pending(&mut first).await && !one.is_paused());
        client_of_one.write_all(&whole[80_000..]).await.unwrap();
    }
    let mut second = Box::pin(other_reader.next());
    assert!(is_pending(&mut second).await && other.is_paused());
    drop(one_reader);
    assert_eq!(second.await.unwrap(), message(&vec![5; 90_000]));
    assert!(!other.is_paused());
}

#[tokio::test(start_paused = true)]
async fn messages_without_progress_come_to_an_end() {
    let begin = frame(0x02, &[7; 17_000]);
    let ping = frame(0x89, b"");
    for (what, begin, goes_on, seconds) in [
        ("silence", &begin[..], &b""[..], 60),
        ("empty fragments", &begin, &frame(0x00, b""), 60),
        ("fragments of a byte", &begin, &frame(0x00, b"x"), 60),
        ("pings", &begin, &ping, 60),
        ("half of a head", &begin[..3], b"", 60),
        ("half of a ping", &frame(0x89, b"ping")[..4], b"", 60),
        ("a small message", &frame(0x02, b"x"), &frame(0x00, b"x"), 60),
        ("half of the rate", &begin, &frame(0x00, &[1; 5_000]), 120),
        ("too large, silence", &frame(0x82, &message_of(LIMIT + 1))[..17_000], b"", 60),
        ("too large, bytes", &frame(0x82, &message_of(LIMIT + 1))[..17_000], b"x", 60),
    ] {
        let budget = ReceiveBudget::new(16 * LIMIT, Arc::default());
        let liveness = Liveness::default();
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let mut reader = reader(server, &budget, "device", &liveness);
        client.write_all(begin).await.unwrap();
        let goes_on = goes_on.to_vec();
        let sending = tokio::spawn(async move {
            while !goes_on.is_empty() && client.write_all(&goes_on).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
            std::future::pending::<()>().await;
            drop(client);
        });
        let begun = tokio::time::Instant::now();
        let error = loop {
            match reader.next().await {
                Ok(Incoming::Ping(_)) => {}
                Ok(other) => panic!("{what}: {other:?}"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, ReadError::TooSlow(TooSlow::Rate(1_000))), "{what}: {error}");
        let took = begun.elapsed().as_secs();
        assert!(took.abs_diff(seconds) <= 20, "{what}: {took}");
        assert_eq!(budget.held(), 0, "{what}");
        sending.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_at_all_is_not_slow() {
    let liveness = Liveness::default();
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let mut reader = reader(server, &ReceiveBudget::new(LIMIT, Arc::default()), "device", &liveness);
    for pause in [0, 10_000] {
        tokio::time::sleep(Duration::from_secs(pause)).await;
        client.write_all(&frame(0x82, b"hello")).await.unwrap();
        assert_eq!(reader.next().await.unwrap(), message(b"hello"));
        let silent = tokio::time::timeout(Duration::from_secs(10_000), reader.next()).await;
        assert!(silent.is_err());
    }
}
