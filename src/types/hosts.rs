//! Names whose address the owner gives herself: the setting `identity.hosts`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use url::Url;

/// Most names in the table.
pub const MAX_HOSTS: usize = 256;

/// Where to find names instead of by DNS. An address given here may be private: the owner chose it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hosts(BTreeMap<String, SocketAddr>);

impl Hosts {
    /// Adds `NAME=ADDRESS` or `NAME=ADDRESS:PORT`; IPv6 with a port is `[ADDRESS]:PORT`. The port is used for
    /// URLs that name none.
    ///
    /// # Errors
    /// What is wrong with the entry, as the end of a sentence that begins with it.
    pub fn insert(&mut self, entry: &str) -> Result<(), String> {
        let Some((name, address)) = entry.split_once('=') else {
            return Err("is not NAME=ADDRESS: write one such as pds.home.example=192.168.1.5:8443".into());
        };
        let (name, address) = (name.trim().to_ascii_lowercase(), address.trim());
        // As in a URL, so that what is looked up is found, and nothing stands for an address literal.
        let as_host = Url::parse(&format!("https://{name}/")).ok();
        let is_name = as_host.as_ref().and_then(Url::domain) == Some(name.as_str()) && name.contains('.');
        if !is_name {
            return Err(format!("does not begin with a DNS name: {name:?} is none"));
        }
        let target = match (address.parse::<SocketAddr>(), address.parse::<IpAddr>()) {
            (Ok(with_port), _) => with_port,
            (_, Ok(alone)) => SocketAddr::new(alone, 0),
            _ => {
                return Err(format!("does not end in an address, alone or with a port: {address:?} is none"));
            }
        };
        if target.ip().is_unspecified() || target.ip().is_multicast() {
            return Err(format!("names {}, which is no machine's address", target.ip()));
        }
        if self.0.len() >= MAX_HOSTS {
            return Err(format!("is one too many: at most {MAX_HOSTS} names can be given"));
        }
        match self.0.insert(name, target) {
            Some(other) if other != target => Err("gives a name a second address: keep one of them".into()),
            _ => Ok(()),
        }
    }

    /// The address of a name; its port is 0 if none was given.
    pub fn get(&self, name: &str) -> Option<SocketAddr> {
        self.0.get(&name.to_ascii_lowercase()).copied()
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (name, target)) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            match target.port() {
                0 => write!(f, "{separator}{name}={}", target.ip())?,
                _ => write!(f, "{separator}{name}={target}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_names_and_addresses() {
        let mut hosts = Hosts::default();
        for entry in ["pds.home.example=192.168.1.5:8443", "B.example = ::1", "c.example=[fd00::1]:443"] {
            hosts.insert(entry).unwrap();
        }
        assert_eq!(hosts.get("PDS.home.example"), Some("192.168.1.5:8443".parse().unwrap()));
        assert_eq!(hosts.get("b.example"), Some("[::1]:0".parse().unwrap()));
        assert_eq!(hosts.get("d.example"), None);
        let shown = hosts.to_string();
        assert_eq!(shown, "b.example=::1, c.example=[fd00::1]:443, pds.home.example=192.168.1.5:8443");
        for (bad, part) in [
            ("a.example", "NAME=ADDRESS"),
            ("=127.0.0.1", "DNS name"),
            ("127.0.0.1=127.0.0.1", "DNS name"),
            ("2130706433.1=127.0.0.1", "DNS name"),
            ("localhost=127.0.0.1", "DNS name"),
            ("a.example/x=127.0.0.1", "DNS name"),
            ("u@a.example=127.0.0.1", "DNS name"),
            ("a.example=b.example", "address"),
            ("a.example=1.2.3.4:99999", "address"),
            ("a.example=0.0.0.0", "no machine's"),
            ("b.example=127.0.0.1", "second address"),
        ] {
            let error = hosts.clone().insert(bad).unwrap_err();
            assert!(error.contains(part), "{bad}: {error}");
        }
    }
}
