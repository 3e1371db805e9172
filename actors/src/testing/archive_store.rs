//! What every archive store must do: [`conforms`].

#![expect(clippy::expect_used, reason = "a suite fails by panicking")]

use std::io::Read;

use bytes::Bytes;
use futures::TryStreamExt;

use crate::archive::{ArchiveObject, objects_between};
use crate::port::{ArchiveStore, ObjectInfo, ObjectRef, Put, StoreError};
use crate::time::Timestamp;

/// Runs the whole suite, each check on a store that `fresh` gives, empty and of its own.
///
/// # Panics
/// When the store breaks a promise of the port; the message names it.
pub async fn conforms<S: ArchiveStore>(mut fresh: impl FnMut() -> S) {
    puts_and_reads_back(&fresh()).await;
    never_writes_a_name_twice(&fresh()).await;
    lists_by_prefix_in_the_order_of_names(&fresh()).await;
    reports_a_missing_object(&fresh()).await;
    deletes_exactly_one_version(&fresh()).await;
    composes_in_order_and_keeps_the_sources(&fresh()).await;
    composes_nothing_from_a_missing_object(&fresh()).await;
    refuses_what_stays_wrong(&fresh()).await;
    gives_a_name_to_one_of_many_writers(&fresh()).await;
}

async fn puts_and_reads_back(store: &dyn ArchiveStore) {
    // More than one chunk of any store, and nothing at all.
    let large: Bytes = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>().into();
    for (name, body) in [("a/large", large), ("a/empty", Bytes::new())] {
        let stored = stored(store, name, &body).await;
        assert_eq!(stored.name, name);
        assert_eq!(stored.size, body.len() as u64);
        assert_eq!(stored.crc32c, Some(crc32c::crc32c(&body)), "a put returns the checksum");
        assert_eq!(store.info(name).await.expect("it stands"), stored);
        assert_eq!(read(store, name).await, body);
    }
}

async fn never_writes_a_name_twice(store: &dyn ArchiveStore) {
    let first = stored(store, "a/b", b"first").await;
    match store.put_if_absent("a/b", Bytes::from_static(b"second")).await {
        Ok(Put::Exists(existing)) => assert_eq!(existing, first, "the existing object is returned"),
        other => panic!("a taken name was answered with {other:?}"),
    }
    let source = stored(store, "source", b"third").await;
    match store.compose("a/b", &[object(&source)]).await {
        Ok(Put::Exists(existing)) => assert_eq!(existing, first, "the existing object is returned"),
        other => panic!("a taken name was answered with {other:?}"),
    }
    assert_eq!(read(store, "a/b").await, b"first");
}

async fn lists_by_prefix_in_the_order_of_names(store: &dyn ArchiveStore) {
    for name in ["a/c/1", "a/b-2", "a/b/1", "ab", "a/b-10", "b/1"] {
        stored(store, name, name.as_bytes()).await;
    }
    let expected = [
        ("", vec!["a/b-10", "a/b-2", "a/b/1", "a/c/1", "ab", "b/1"]),
        ("a/", vec!["a/b-10", "a/b-2", "a/b/1", "a/c/1"]),
        ("a/b", vec!["a/b-10", "a/b-2", "a/b/1"]),
        ("a/b-", vec!["a/b-10", "a/b-2"]),
        ("a/b/1", vec!["a/b/1"]),
        ("c/", vec![]),
    ];
    for (prefix, names) in expected {
        let listed = store.list(prefix).await.expect("a listing");
        let found: Vec<_> = listed.iter().map(|info| info.name.as_str()).collect();
        assert_eq!(found, names, "prefix {prefix:?}");
        for info in listed {
            let exact = store.info(&info.name).await.expect("it stands");
            assert_eq!((info.size, info.generation), (exact.size, exact.generation));
            assert!(info.crc32c.is_none_or(|crc32c| Some(crc32c) == exact.crc32c));
        }
    }
}

async fn reports_a_missing_object(store: &dyn ArchiveStore) {
    stored(store, "a/b", b"x").await;
    for name in ["b", "a/c", "a"] {
        assert!(matches!(store.info(name).await, Err(StoreError::NotFound(_))), "info of {name}");
        assert!(matches!(store.read(name).await, Err(StoreError::NotFound(_))), "read of {name}");
    }
}

async fn deletes_exactly_one_version(store: &dyn ArchiveStore) {
    let neighbour = stored(store, "a/c", b"neighbour").await;
    let old = stored(store, "a/b", b"same").await;
    store.delete(&object(&old)).await.expect("deleted");
    store.delete(&object(&old)).await.expect("deleting again is no error");
    assert!(matches!(store.info("a/b").await, Err(StoreError::NotFound(_))));
    let new = stored(store, "a/b", b"same").await;
    assert_ne!(old.generation, new.generation, "a name written again has another generation");
    store.delete(&object(&old)).await.expect("another version is no error");
    assert_eq!(store.list("").await.expect("a listing").len(), 2);
    assert_eq!(store.info("a/c").await.expect("untouched"), neighbour);
    // The last object of a folder may take the folder with it; the next one brings it back.
    store.delete(&object(&new)).await.expect("deleted");
    store.delete(&object(&neighbour)).await.expect("deleted");
    stored(store, "a/d", b"again").await;
}

async fn composes_in_order_and_keeps_the_sources(store: &dyn ArchiveStore) {
    let mut sources = Vec::new();
    let mut expected = Vec::new();
    for number in 0..32 {
        let body = format!("line {number}\n").repeat(number);
        sources.push(object(&stored(store, &format!("s/{number}"), body.as_bytes()).await));
        expected.extend_from_slice(body.as_bytes());
    }
    let Ok(Put::Stored(made)) = store.compose("c/all", &sources).await else {
        panic!("32 sources were not composed");
    };
    assert_eq!(made.size, expected.len() as u64);
    assert_eq!(made.crc32c, Some(crc32c::crc32c(&expected)), "a compose returns the checksum");
    assert_eq!(store.info("c/all").await.expect("it stands"), made);
    assert_eq!(read(store, "c/all").await, expected);
    assert_eq!(store.list("s/").await.expect("a listing").len(), 32);
    let again = [object(&made), object(&made)];
    assert!(matches!(store.compose("c/twice", &again).await, Ok(Put::Stored(_))));
    assert_eq!(read(store, "c/twice").await, expected.repeat(2));
}

async fn composes_nothing_from_a_missing_object(store: &dyn ArchiveStore) {
    let stays = object(&stored(store, "s/1", b"one").await);
    let gone = object(&stored(store, "s/2", b"two").await);
    let missing = ObjectRef { name: "s/3".to_owned(), generation: gone.generation };
    let other = ObjectRef { generation: stays.generation ^ 1, ..stays.clone() };
    store.delete(&gone).await.expect("deleted");
    for source in [gone, missing, other] {
        let answer = store.compose("c", &[stays.clone(), source.clone()]).await;
        assert!(matches!(answer, Err(StoreError::NotFound(_))), "{source:?}: {answer:?}");
    }
    assert!(matches!(store.info("c").await, Err(StoreError::NotFound(_))), "nothing was made");
}

async fn refuses_what_stays_wrong(store: &dyn ArchiveStore) {
    let source = object(&stored(store, "s", b"x").await);
    for sources in [vec![], vec![source; 33]] {
        let answer = store.compose("c", &sources).await;
        assert!(matches!(answer, Err(StoreError::Refused(_))), "{}: {answer:?}", sources.len());
    }
    for name in ["", "/a", "../a", "a/../b", "a//b", "a/", "./a"] {
        let answer = store.put_if_absent(name, Bytes::from_static(b"x")).await;
        assert!(matches!(answer, Err(StoreError::Refused(_))), "{name:?}: {answer:?}");
    }
}

async fn gives_a_name_to_one_of_many_writers(store: &dyn ArchiveStore) {
    let bodies: Vec<_> = (0..16).map(|n| Bytes::from(format!("writer {n}\n"))).collect();
    let puts = bodies.iter().map(|body| store.put_if_absent("deep/er/name", body.clone()));
    let answers = futures::future::join_all(puts).await;
    let won: Vec<_> = (0..16).filter(|&n| matches!(answers[n], Ok(Put::Stored(_)))).collect();
    assert_eq!(won.len(), 1, "one writer gets the name: {answers:?}");
    assert_eq!(read(store, "deep/er/name").await, bodies[won[0]]);
}

async fn stored(store: &dyn ArchiveStore, name: &str, body: &[u8]) -> ObjectInfo {
    match store.put_if_absent(name, Bytes::copy_from_slice(body)).await {
        Ok(Put::Stored(info)) => info,
        other => panic!("a put of {name} was answered with {other:?}"),
    }
}

fn object(info: &ObjectInfo) -> ObjectRef {
    ObjectRef { name: info.name.clone(), generation: info.generation }
}

/// The whole of one object.
///
/// # Panics
/// When it cannot be read.
pub async fn read(store: &dyn ArchiveStore, name: &str) -> Vec<u8> {
    let chunks = store.read(name).await.expect("the object opens");
    chunks.try_collect::<Vec<Bytes>>().await.expect("the object is read").concat()
}

/// Every object that holds event lines, with its lines.
///
/// # Panics
/// When the archive cannot be read.
pub async fn lines(store: &dyn ArchiveStore) -> Vec<(ArchiveObject, Vec<String>)> {
    let (from, to) = (Timestamp::from_micros(0), Timestamp::from_micros(MAX_MICROS));
    let mut all = Vec::new();
    for object in objects_between(store, from, to).await.expect("a listing") {
        let body = read(store, &object.name).await;
        let mut text = String::new();
        let mut reader = object.compression.reader(&body[..]).expect("a decoder");
        reader.read_to_string(&mut text).expect("intact lines");
        drop(reader);
        assert!(text.is_empty() || text.ends_with('\n'), "{}: a torn line", object.name);
        all.push((object, text.lines().map(str::to_owned).collect()));
    }
    all
}

/// The last moment of the year 9999.
const MAX_MICROS: i64 = 253_402_300_799_999_999;
