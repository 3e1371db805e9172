//! The roles that `ops/iam.md` documents for each command.

/// The roles of each command, from `ops/iam.md`, which is their only place.
const DOCUMENT: &str = include_str!("../../ops/iam.md");

/// A role, and where it is granted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Grant {
    pub(crate) role: String,
    /// `topic`, `subscription`, `dataset`, `bucket` or `project`.
    pub(crate) on: String,
}

/// The commands in the order of the document, each with all of its roles.
pub(crate) fn documented() -> Vec<(String, Vec<Grant>)> {
    let mut commands: Vec<(String, Vec<Grant>)> = Vec::new();
    for row in DOCUMENT.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [command, role, on, _] = cells[..] else { panic!("four cells: {row}") };
        if !command.is_empty() {
            commands.push((command.replace('`', ""), Vec::new()));
        }
        let inherited = role.strip_prefix("as ").map(|of| {
            let of = of.trim_matches('`');
            let found = commands.iter().find(|(command, _)| command == of);
            found.unwrap_or_else(|| panic!("no command {of}")).1.clone()
        });
        let grants = inherited.unwrap_or_else(|| {
            let on = on.strip_prefix("the ").unwrap_or_else(|| panic!("on what: {row}"));
            vec![Grant { role: role.trim_matches('`').to_owned(), on: on.to_owned() }]
        });
        commands.last_mut().unwrap().1.extend(grants);
    }
    commands
}
