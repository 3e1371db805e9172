//! Indexes show lost, cut and edited objects, and guard the names of lost finals.

use super::*;

async fn listed(store: &dyn ArchiveStore) -> (Vec<ArchiveObject>, Indexes) {
    let objects = objects_between(store, FIRST, LAST).await.unwrap();
    let indexes = indexes_between(store, FIRST, LAST, &objects).await.unwrap();
    (objects, indexes)
}

/// An object's lines.
fn text(archive: &MemoryArchive, name: &str) -> String {
    String::from_utf8(archive.body(name).unwrap().to_vec()).unwrap()
}

/// Two finals of one turn, with 40 and 30 lines.
async fn composed() -> (MemoryArchive, Incarnation, Vec<Final>) {
    let (archive, incarnation) = (MemoryArchive::new(), Incarnation::random());
    store_lines(&archive, &incarnation, 70).await;
    let limits = Limits { final_bytes: 350, parts: 100 };
    let finals = close(&archive, window(), &incarnation, limits).await.unwrap();
    assert_eq!(finals.len(), 2);
    (archive, incarnation, finals)
}

#[tokio::test]
async fn an_index_describes_each_final_of_its_manifest() {
    let (archive, _, finals) = composed().await;
    assert_eq!(indexed(&archive).await, 70);
    let (objects, indexes) = listed(&archive).await;
    for (object, made) in objects.iter().zip(&finals) {
        let indexed = indexes.find(&object.name).unwrap();
        let body = text(&archive, &object.name);
        let read = (indexed.size, indexed.lines, indexed.crc32c);
        assert_eq!(read, (made.size, made.lines, made.crc32c));
        assert_eq!(indexed.lines, Some(body.lines().count() as u64));
        assert_eq!(indexed.crc32c, crc32c::crc32c(body.as_bytes()));
    }
}

#[tokio::test]
async fn a_lost_final_a_lost_index_and_a_damaged_index_are_named() {
    let (archive, _, finals) = composed().await;
    archive.lose(&finals[1].name);
    let (_, indexes) = listed(&archive).await;
    assert_eq!(indexes.lost.iter().map(|one| &*one.name).collect::<Vec<_>>(), [&*finals[1].name]);

    let index = archive.names().into_iter().find(|name| name.starts_with("index/")).unwrap();
    archive.overwrite(&index, "{".to_owned());
    let (_, indexes) = listed(&archive).await;
    assert_eq!(indexes.unreadable[0].0, index);

    archive.lose(&index);
    let (_, indexes) = listed(&archive).await;
    assert_eq!(indexes.unindexed, [finals[0].name.clone()]);
    assert_eq!(indexes.lost, []);
}

#[tokio::test]
async fn lost_and_edited_lines_are_differences() {
    let (archive, _, _) = composed().await;
    let (objects, indexes) = listed(&archive).await;
    let body = text(&archive, &objects[0].name);
    let read = |body: &str| {
        let mut tally = Tally { lines: body.lines().count() as u64, ..Tally::default() };
        body.as_bytes().chunks(7).for_each(|chunk| tally.add(chunk));
        indexes.difference(&objects[0], &tally)
    };
    assert_eq!(read(&body), None);
    let shorter: String = body.lines().skip(3).map(|line| format!("{line}\n")).collect();
    let lines = body.lines().count();
    assert!(read(&shorter).unwrap().contains(&format!("{} of the {lines} lines", lines - 3)));
    assert!(read(&body.replacen(':', ": ", 1)).unwrap().contains("bytes"));
    assert!(read(&body.replacen("11", "12", 1)).unwrap().contains("edited"));
}

#[tokio::test]
async fn a_part_that_lost_lines_differs_from_its_name_and_stays_so_in_its_final() {
    let (archive, incarnation) = (MemoryArchive::new(), Incarnation::random());
    let mut lines = Part::new(LineFormat::Payload, Compression::None);
    (0..3).for_each(|number| lines.append(&message(&line(number))));
    let stored = lines.encode().unwrap();
    let info = store_part(&archive, window(), &incarnation, 0, &stored).await.unwrap();
    archive.overwrite(&info.name, line(0) + "\n");
    for closed in [false, true] {
        if closed {
            close(&archive, window(), &incarnation, Limits::DEFAULT).await.unwrap();
        }
        let (objects, indexes) = listed(&archive).await;
        let read = tally(&archive, &objects[0], 1).await;
        let difference = indexes.difference(&objects[0], &read).unwrap();
        assert!(difference.contains("1 of the 3 lines"), "{difference}");
    }
}

#[tokio::test]
async fn a_late_part_never_takes_the_name_of_a_final_that_was_lost() {
    let (archive, incarnation, finals) = composed().await;
    finals.iter().for_each(|lost| archive.lose(&lost.name));
    store_part(&archive, window(), &incarnation, 70, &part(&line(70))).await.unwrap();
    let made = close(&archive, window(), &incarnation, Limits::DEFAULT).await.unwrap();
    let name: FinalName = made[0].name.parse().unwrap();
    assert_eq!(name.manifest.turn, 1);
    let (_, indexes) = listed(&archive).await;
    assert_eq!(indexes.lost.len(), 2, "the loss is still known");
}

#[tokio::test]
async fn a_stale_manifest_of_a_turn_whose_finals_were_lost_is_abandoned() {
    let (archive, incarnation, finals) = composed().await;
    finals.iter().for_each(|lost| archive.lose(&lost.name));
    store_part(&archive, window(), &incarnation, 70, &part(&line(70))).await.unwrap();
    let late = seal(&archive, window(), &incarnation, Limits::DEFAULT).await.unwrap().unwrap();
    let name = ManifestName { turn: 0, ..late.manifest.name() };
    let form = (LineFormat::Payload, Compression::None);
    let stale = Manifest::plan(name, form, late.manifest.finals[0].parts.clone(), 1000);
    let body = serde_json::to_vec(&stale).unwrap();
    archive.put_if_absent(&stale.name().to_string(), body.into()).await.unwrap();
    recover(&archive, Limits::DEFAULT).await;
    assert_eq!(seen(&archive).await, [(line(70), 1)].into());
    let (_, indexes) = listed(&archive).await;
    assert_eq!((indexes.lost.len(), indexes.unindexed.len()), (2, 0));
}

#[tokio::test]
async fn parts_of_different_formats_are_never_composed_together() {
    let (archive, incarnation) = (MemoryArchive::new(), Incarnation::random());
    let formats = [LineFormat::Payload, LineFormat::Annotated, LineFormat::Envelope];
    for number in 0..9 {
        let mut lines = Part::new(formats[number as usize % 3], Compression::None);
        lines.append(&message(&line(number)));
        let stored = lines.encode().unwrap();
        store_part(&archive, window(), &incarnation, number, &stored).await.unwrap();
    }
    let finals = close(&archive, window(), &incarnation, Limits::DEFAULT).await.unwrap();
    assert_eq!(finals.len(), 3);
    assert_eq!(indexed(&archive).await, 9);
    let mut read = BTreeMap::new();
    for (object, lines) in lines(&archive).await {
        assert_eq!(lines.len(), 3, "{}", object.name);
        for line in lines {
            let event = object.format.decode(line.into()).unwrap();
            let payload = String::from_utf8(event.payload.to_vec()).unwrap();
            *read.entry(payload).or_default() += 1;
        }
    }
    assert_eq!(read, once_each(9));
}
