use std::fs;
use std::os::unix::fs::PermissionsExt;

use bytes::Bytes;
use kappa_actors::archive::{
    Compression, EncodedPart, Incarnation, Limits, LineFormat, Window, close, store_part,
    unfinished,
};
use kappa_actors::port::{ArchiveStore, Put, StoreError};
use kappa_actors::testing::archive_store::{conforms, lines};

use super::LocalArchive;

fn part(text: &str) -> EncodedPart {
    let body = Bytes::copy_from_slice(text.as_bytes());
    let crc32c = crc32c::crc32c(&body);
    EncodedPart {
        body,
        crc32c,
        compression: Compression::None,
        format: LineFormat::Payload,
        events: 1,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_keeps_every_promise_of_the_port() {
    let folders = tempfile::tempdir().unwrap();
    let mut number = 0;
    conforms(|| {
        number += 1;
        LocalArchive::open(&folders.path().join(number.to_string())).unwrap()
    })
    .await;
}

#[tokio::test]
async fn a_window_sealed_on_disk_leaves_final_objects_and_no_folder_else() {
    let folder = tempfile::tempdir().unwrap();
    let archive = LocalArchive::open(folder.path()).unwrap();
    let window: Window = "20260217T143000Z".parse().unwrap();
    let incarnation = Incarnation::random();
    let texts: Vec<_> = (0..70).map(|number| format!("{{\"n\":{number}}}\n")).collect();
    for (number, text) in (0..).zip(&texts) {
        store_part(&archive, window, &incarnation, number, &part(text)).await.unwrap();
    }
    let finals = close(&archive, window, &incarnation, Limits::DEFAULT).await.unwrap();
    assert_eq!(finals.len(), 1);
    assert!(unfinished(&archive).await.unwrap().is_empty());
    let stored = lines(&archive).await;
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].0.name, finals[0].name);
    assert_eq!(stored[0].1.join("\n") + "\n", texts.concat());
    let mut left: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [".aside", "events", "index"]);
}

#[tokio::test]
async fn temporary_files_of_a_killed_writer_are_removed_and_those_of_a_live_one_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    LocalArchive::open(folder.path()).unwrap();
    let aside = folder.path().join(".aside");
    fs::write(aside.join("left"), "half an obj").unwrap();
    let live = fs::File::create(aside.join("live")).unwrap();
    live.lock().unwrap();
    let archive = LocalArchive::open(folder.path()).unwrap();
    assert!(!aside.join("left").exists());
    assert!(aside.join("live").exists());
    assert!(archive.list("").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_put_that_cannot_be_written_is_unavailable_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("archive");
    let archive = LocalArchive::open(&root).unwrap();
    fs::rename(&root, folder.path().join("away")).unwrap();
    let body = Bytes::from_static(b"x");
    let put = archive.put_if_absent("a/b", body.clone()).await;
    assert!(matches!(put, Err(StoreError::Unavailable(_))), "{put:?}");
    assert!(matches!(archive.list("a/").await, Err(StoreError::Unavailable(_))));
    assert!(matches!(archive.info("a/b").await, Err(StoreError::Unavailable(_))));
    assert!(!root.exists(), "a missing archive is not created again without a report");
    fs::rename(folder.path().join("away"), &root).unwrap();
    assert!(matches!(archive.put_if_absent("a/b", body).await, Ok(Put::Stored(_))));
}

#[tokio::test]
async fn a_folder_without_permission_is_unavailable_until_it_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let archive = LocalArchive::open(folder.path()).unwrap();
    let aside = folder.path().join(".aside");
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o500)).unwrap();
    if fs::File::create(aside.join("probe")).is_ok() {
        return; // root writes everywhere
    }
    let body = Bytes::from_static(b"x");
    let put = archive.put_if_absent("a/b", body.clone()).await;
    assert!(matches!(put, Err(StoreError::Unavailable(_))), "{put:?}");
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(matches!(archive.put_if_absent("a/b", body).await, Ok(Put::Stored(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_gets_its_object_stored_while_deletes_remove_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let archive = LocalArchive::open(folder.path()).unwrap();
    let churn = |who: usize| {
        let archive = archive.clone();
        async move {
            for round in 0..200 {
                let name = format!("w/x/{who}-{round}");
                let Put::Stored(info) =
                    archive.put_if_absent(&name, Bytes::from_static(b"x")).await.unwrap()
                else {
                    panic!("{name} is new");
                };
                let object = kappa_actors::port::ObjectRef { name, generation: info.generation };
                archive.delete(&object).await.unwrap();
            }
        }
    };
    let churns: Vec<_> = (0..4).map(|who| tokio::spawn(churn(who))).collect();
    for churn in churns {
        churn.await.unwrap();
    }
    assert!(archive.list("").await.unwrap().is_empty());
}
