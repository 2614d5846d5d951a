//! An answer over HTTP, taken apart.

use serde_json::Value;

pub struct Said {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: Value,
}

impl Said {
    pub fn read(answer: &str) -> Self {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_lowercase(), body: serde_json::from_str(body).unwrap_or_default() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub fn error(&self) -> (u16, &str) {
        (self.status, self.body["error"].as_str().unwrap_or_default())
    }
}
