//! The tokens and the files of the endpoint. No message shows a token, or a text that may be one.

use std::net::SocketAddr;

use config::{Value, ValueKind};

use super::Check;
use crate::settings::{processors, tree};

/// The section of the sender that the default file has as an example.
const EXAMPLE: &str = "status.senders.shop";

impl Check<'_> {
    /// Checks the senders, whose names are the user's.
    pub(super) fn senders(&mut self, value: &Value) {
        let Some(senders) = tree::table(value) else {
            let hint = "it is a section: write [status.senders.NAME] with a token below";
            return self.report(value, "status.senders is no section", hint);
        };
        for (name, sender) in senders {
            let shown = tree::child("status.senders", name);
            if !processors::is_name(name) {
                let hint = "use letters, digits, '_' and '-', at most 64, for a sender's name";
                self.report(sender, format!("{shown} is no name"), hint);
            } else if tree::table(sender).is_none() {
                let hint = format!("it is a section: write [{shown}] with a token below");
                self.report(sender, format!("{shown} is no section"), hint);
            } else {
                self.section(&shown, EXAMPLE, sender);
                if tree::get(sender, "token").is_none_or(is_empty) {
                    let hint = format!("set {shown}.token, 16 characters at least");
                    self.report(sender, format!("{shown} has no token"), hint);
                }
            }
        }
    }

    /// Checks the endpoint's keys against each other.
    pub(super) fn endpoint(&mut self) {
        self.open_address();
        self.shared_tokens();
        self.half_of_a_pair();
    }

    fn open_address(&mut self) {
        let listen = self.text("status.listen").and_then(|text| text.parse::<SocketAddr>().ok());
        if let (Some(listen), Some(token)) = (listen, self.text("status.token"))
            && !listen.ip().to_canonical().is_loopback()
            && token.is_empty()
            && let Some(value) = tree::get(self.tree, "status.listen")
        {
            let reason = format!("status.listen is {listen}, which others reach, without a token");
            self.report(value, reason, "set status.token, or listen on 127.0.0.1");
        }
    }

    /// A token names its bearer, so no two may be equal.
    fn shared_tokens(&mut self) {
        let secrets = tree::leaves(self.tree).into_iter().filter(|(key, value)| {
            let names_one = key.starts_with("status.senders.") && key.ends_with(".token");
            (names_one || key == "status.token") && !is_empty(value)
        });
        let secrets: Vec<_> = secrets.collect();
        for (index, (key, value)) in secrets.iter().enumerate() {
            let equal = |(_, other): &&(String, &Value)| other.kind == value.kind;
            if let Some((first, _)) = secrets.iter().take(index).find(equal) {
                let reason = format!("{key} is the same token as {first}");
                self.report(value, reason, "give each a token of its own");
            }
        }
    }

    fn half_of_a_pair(&mut self) {
        let [certificate, key] = ["status.tls.certificate", "status.tls.key"];
        for (set, missing) in [(certificate, key), (key, certificate)] {
            let is_set = |key: &str| self.text(key).is_some_and(|text| !text.is_empty());
            if is_set(set)
                && !is_set(missing)
                && let Some(value) = tree::get(self.tree, set)
            {
                let hint = format!("set {missing} too, or neither");
                self.report(value, format!("{set} is set, and {missing} is not"), hint);
            }
        }
    }

    fn text(&self, key: &str) -> Option<&str> {
        match &tree::get(self.tree, key)?.kind {
            ValueKind::String(text) => Some(text),
            _ => None,
        }
    }
}

fn is_empty(value: &Value) -> bool {
    matches!(&value.kind, ValueKind::String(text) if text.is_empty())
}
