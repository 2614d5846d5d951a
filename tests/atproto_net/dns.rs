//! A DNS server for tests (RFC 1035): A, AAAA and TXT of a few names.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::UdpSocket;

/// Resource data of one record.
#[derive(Clone)]
pub enum Data {
    Address(IpAddr),
    /// Its character strings.
    Txt(Vec<String>),
}

type Zone = HashMap<String, Vec<Data>>;

pub struct DnsServer {
    pub address: SocketAddr,
}

impl DnsServer {
    /// These names have these addresses, all others none.
    pub async fn new(zone: &[(&str, &[&str])]) -> Self {
        let data = |texts: &[&str]| texts.iter().map(|ip| Data::Address(ip.parse().unwrap())).collect();
        Self::start(zone.iter().map(|(name, ips)| ((*name).into(), data(ips))).collect(), None).await
    }

    /// These names have these TXT records, each of one or more strings parted by `|`.
    pub async fn txt(zone: &[(&str, &[&str])]) -> Self {
        let data = |texts: &[&str]| {
            texts.iter().map(|text| Data::Txt(text.split('|').map(String::from).collect())).collect()
        };
        Self::start(zone.iter().map(|(name, texts)| ((*name).into(), data(texts))).collect(), None).await
    }

    /// The name has the first address once, with no time to live, and then the second.
    pub async fn rebinding(name: &str, first: &str, then: &str) -> Self {
        let one = |ip: &str| Zone::from([(name.to_owned(), vec![Data::Address(ip.parse().unwrap())])]);
        Self::start(one(first), Some(one(then))).await
    }

    async fn start(zone: Zone, mut then: Option<Zone>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let mut zone = Arc::new(zone);
        let answered = AtomicBool::new(false);
        tokio::spawn(async move {
            let mut packet = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut packet).await {
                let (answer, found) = answer(&packet[..length], &zone);
                let _ = socket.send_to(&answer, from).await;
                answered.fetch_or(found, Ordering::SeqCst);
                if answered.load(Ordering::SeqCst)
                    && let Some(next) = then.take()
                {
                    zone = Arc::new(next);
                }
            }
        });
        Self { address }
    }
}

fn answer(question: &[u8], zone: &Zone) -> (Vec<u8>, bool) {
    let mut labels = Vec::new();
    let mut at = 12;
    while question[at] != 0 {
        let length = usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..=at + length]).to_ascii_lowercase());
        at += length + 1;
    }
    let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    let name = labels.join(".");
    let records: Vec<Vec<u8>> = zone.get(&name).map_or(Vec::new(), |all| {
        all.iter()
            .filter_map(|data| match (kind, data) {
                (1, Data::Address(IpAddr::V4(ip))) => Some(ip.octets().to_vec()),
                (28, Data::Address(IpAddr::V6(ip))) => Some(ip.octets().to_vec()),
                (16, Data::Txt(texts)) => Some(
                    texts
                        .iter()
                        .flat_map(|text| [vec![u8::try_from(text.len()).unwrap()], text.clone().into_bytes()])
                        .flatten()
                        .collect(),
                ),
                _ => None,
            })
            .collect()
    });
    let code = if name.starts_with("broken.") || name.contains(".broken.") {
        2
    } else if zone.contains_key(&name) {
        0
    } else {
        3
    };
    let count = u16::try_from(records.len()).unwrap();
    let mut out = question[..2].to_vec();
    out.extend([0x81, 0x80 | code, 0, 1]);
    out.extend(count.to_be_bytes());
    out.extend([0, 0, 0, 0]);
    out.extend(&question[12..at + 5]);
    for data in &records {
        out.extend([0xc0, 12]);
        out.extend(kind.to_be_bytes());
        // Class IN, time to live 0.
        out.extend([0, 1, 0, 0, 0, 0]);
        out.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        out.extend(data);
    }
    (out, count > 0)
}
