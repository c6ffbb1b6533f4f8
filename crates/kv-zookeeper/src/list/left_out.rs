//! Notes the nodes that a listing leaves out, since they are no keys.

use super::Walk;
use crate::names::OWN;
use kv_core::driver::NotesLeftOut;

/// The nodes that a walk has left out and that are not told yet.
#[derive(Default)]
pub(super) struct LeftOut(Vec<Node>);

struct Node {
    place: String,
    path: String,
}

impl Walk<'_> {
    /// Notes a node that is no key, and none that stores or the server keep for themselves.
    pub(super) fn leave_out(&mut self, start: &str, path: &str, child: &str) {
        let place = format!("{start}{child}");
        if child == OWN || (path == "/" && child == "zookeeper") || !self.is_after(&place) {
            return;
        }
        if let Some(LeftOut(nodes)) = &mut self.left_out {
            let path = format!("{}/{child}", if path == "/" { "" } else { path });
            nodes.push(Node { place, path });
        }
    }

    /// Tells what was left out up to the place with which the page ends, or up to the end. The rest
    /// stays for the next page: it goes on with this walk, or sees all behind that place anew.
    pub(super) fn note_left_out(&mut self, last: Option<&str>, notes: &NotesLeftOut) {
        let Some(LeftOut(nodes)) = &mut self.left_out else { return };
        let is_told = |node: &mut Node| last.is_none_or(|last| *node.place <= *last);
        nodes.extract_if(.., is_told).for_each(|node| notes.note(node.path));
    }
}
