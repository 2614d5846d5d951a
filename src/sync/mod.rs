//! The automerge-repo protocol on change graphs, as a state machine. No I/O, no clock, no threads.
//!
//! [`wire`] and [`message`] read and write what clients send; [`price`] says what decoding may cost and [`pricing`] counts it, [`chunk`],
//! [`columns`] and [`bloom`] check it. An [`event`] is a message that was checked, an [`oversize`] says why one was not taken. [`graph`] is one document's change graph, [`doc`] a
//! document in use with its [`peer`]s, [`shard`] all documents and connections. [`parcel`] reads what came by file instead.

pub mod bloom;
pub mod chunk;
pub mod columns;
pub mod connection;
pub mod doc;
pub mod ephemeral;
pub mod event;
pub mod fair;
pub mod graph;
pub mod job;
pub mod leb;
pub mod message;
pub mod meter;
pub mod opener;
pub mod oversize;
pub mod parcel;
pub mod price;
pub mod pricing;
pub mod remote;
pub mod roster;
pub mod shard;
pub mod snapshot;
pub mod source;
pub mod storage;
pub mod wire;
