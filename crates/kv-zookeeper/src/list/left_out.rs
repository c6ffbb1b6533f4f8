//! Notes the nodes that a listing leaves out, since they are no keys.

use kv_core::driver::NotesLeftOut;

/// The nodes that a walk has left out and that are not told yet.
#[derive(Default)]
pub(super) struct LeftOut(Vec<Node>);

struct Node {
    place: String,
    path: String,
}

impl LeftOut {
    /// Notes the child of a node by its place in the walk.
    pub(super) fn add(&mut self, place: String, parent: &str, child: &str) {
        let path = format!("{}/{child}", if parent == "/" { "" } else { parent });
        self.0.push(Node { place, path });
    }

    /// Tells what was left out up to the place with which the page ends, or up to the end. The rest
    /// stays for the next page: it goes on with this walk, or sees all behind that place anew.
    pub(super) fn tell(&mut self, last: Option<&str>, notes: &NotesLeftOut) {
        let is_told = |node: &mut Node| last.is_none_or(|last| *node.place <= *last);
        self.0.extract_if(.., is_told).for_each(|node| notes.note(node.path));
    }
}
