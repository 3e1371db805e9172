//! The BigQuery server, seen by raw clients: each rule and each fault.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod types;

use futures::stream;
use googleapis_tonic_google_cloud_bigquery_storage_v1::google::cloud::bigquery::storage::v1 as api;
use kappa_test_servers::bigquery::{AppendFault, BigQueryServer, RestFault};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto};
use serde_json::{Value, json};
use tonic::Code;

use api::append_rows_request::{ProtoData, Rows};
use api::append_rows_response::Response;
use api::big_query_write_client::BigQueryWriteClient;

const TABLE: &str = "p.d.orders";
const PATH: &str = "projects/p/datasets/d/tables/orders";

async fn rest(server: &BigQueryServer, method: &str, path: &str, body: Value) -> (u16, Value) {
    let url = format!("{}/bigquery/v2/projects/p/{path}", server.rest_endpoint());
    let method = method.parse().unwrap();
    let answer = reqwest::Client::new().request(method, url).json(&body).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or(Value::Null))
}

async fn started(keyed: bool) -> BigQueryServer {
    let server = BigQueryServer::start().await.unwrap();
    let dataset = json!({ "datasetReference": { "datasetId": "d" } });
    assert_eq!(rest(&server, "POST", "datasets", dataset).await.0, 200);
    let mut table = json!({
        "tableReference": { "tableId": "orders" },
        "schema": { "fields": [
            { "name": "id", "type": "STRING", "mode": "REQUIRED" },
            { "name": "n", "type": "INTEGER" },
        ]},
    });
    if keyed {
        table["tableConstraints"] = json!({ "primaryKey": { "columns": ["id"] } });
    }
    assert_eq!(rest(&server, "POST", "datasets/d/tables", table).await.0, 200);
    server
}

fn schema(names: &[&str]) -> api::ProtoSchema {
    let field = |(at, name): (usize, &&str)| FieldDescriptorProto {
        name: Some((*name).to_owned()),
        number: Some(i32::try_from(at).unwrap() + 1),
        label: Some(Label::Optional.into()),
        r#type: Some(if *name == "n" { Type::Int64 } else { Type::String }.into()),
        ..Default::default()
    };
    let field = names.iter().enumerate().map(field).collect();
    let descriptor = DescriptorProto { name: Some("Row".into()), field, ..Default::default() };
    api::ProtoSchema { proto_descriptor: Some(descriptor) }
}

/// A row of `id`, `n` and further strings from field 3 on.
fn row(id: &str, n: u8, more: &[&str]) -> Vec<u8> {
    let mut row = vec![0x0a, u8::try_from(id.len()).unwrap()];
    row.extend(id.as_bytes());
    row.extend([0x10, n]);
    for (at, text) in more.iter().enumerate() {
        row.extend([((u8::try_from(at).unwrap() + 3) << 3) | 2, u8::try_from(text.len()).unwrap()]);
        row.extend(text.as_bytes());
    }
    row
}

fn request(
    stream: &str,
    names: &[&str],
    rows: Vec<Vec<u8>>,
    offset: Option<i64>,
) -> api::AppendRowsRequest {
    let rows = api::ProtoRows { serialized_rows: rows };
    let data = ProtoData { writer_schema: Some(schema(names)), rows: Some(rows) };
    api::AppendRowsRequest {
        write_stream: stream.to_owned(),
        offset,
        rows: Some(Rows::ProtoRows(data)),
        ..Default::default()
    }
}

async fn client(server: &BigQueryServer) -> BigQueryWriteClient<tonic::transport::Channel> {
    let endpoint = tonic::transport::Endpoint::from_shared(server.grpc_endpoint()).unwrap();
    BigQueryWriteClient::new(endpoint.connect().await.unwrap())
}

/// Sends one request on a connection of its own.
async fn append(
    server: &BigQueryServer,
    request: api::AppendRowsRequest,
) -> Result<api::AppendRowsResponse, Code> {
    let requests = stream::iter([request]);
    let answer =
        client(server).await.append_rows(requests).await.map_err(|status| status.code())?;
    answer.into_inner().message().await.map_err(|status| status.code())?.ok_or(Code::Unknown)
}

fn code(response: &api::AppendRowsResponse) -> Code {
    match response.response.as_ref().unwrap() {
        Response::AppendResult(_) => Code::Ok,
        Response::Error(status) => Code::from(status.code),
    }
}

async fn committed(server: &BigQueryServer) -> String {
    let write_stream = Some(api::WriteStream { r#type: 1, ..Default::default() });
    let request = api::CreateWriteStreamRequest { parent: PATH.into(), write_stream };
    client(server).await.create_write_stream(request).await.unwrap().into_inner().name
}

fn default_stream() -> String {
    format!("{PATH}/streams/_default")
}

#[tokio::test]
async fn rows_appended_are_seen_by_queries() {
    let server = started(false).await;
    let sent =
        request(&default_stream(), &["id", "n"], vec![row("a", 1, &[]), row("b", 2, &[])], None);
    assert_eq!(code(&append(&server, sent).await.unwrap()), Code::Ok);
    let query = json!({ "query": "SELECT id, n FROM `p.d.orders` WHERE id = @id",
        "queryParameters": [{ "name": "id", "parameterType": { "type": "STRING" }, "parameterValue": { "value": "b" } }] });
    let (status, answer) = rest(&server, "POST", "queries", query).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["rows"], json!([{ "f": [{ "v": "b" }, { "v": "2" }] }]));
    assert_eq!(server.control().violations(), Vec::<String>::new());
}

#[tokio::test]
async fn offsets_are_kept_and_different_rows_at_a_used_one_are_a_violation() {
    let server = started(false).await;
    let name = committed(&server).await;
    let at = |id, offset| request(&name, &["id", "n"], vec![row(id, 1, &[])], Some(offset));
    assert_eq!(code(&append(&server, at("a", 0)).await.unwrap()), Code::Ok);
    assert_eq!(code(&append(&server, at("a", 0)).await.unwrap()), Code::AlreadyExists);
    assert!(server.control().violations().is_empty());
    assert_eq!(code(&append(&server, at("b", 0)).await.unwrap()), Code::AlreadyExists);
    assert_eq!(server.control().violations().len(), 1);
    assert_eq!(code(&append(&server, at("c", 5)).await.unwrap()), Code::OutOfRange);
    let end = api::FinalizeWriteStreamRequest { name: name.clone() };
    let ended = client(&server).await.finalize_write_stream(end).await.unwrap().into_inner();
    assert_eq!(ended.row_count, 1);
    assert_eq!(code(&append(&server, at("b", 1)).await.unwrap()), Code::FailedPrecondition);
    let sent = request(&default_stream(), &["id", "n"], vec![row("a", 1, &[])], Some(0));
    assert_eq!(code(&append(&server, sent).await.unwrap()), Code::InvalidArgument);
}

#[tokio::test]
async fn a_newer_change_wins_in_any_order_and_dml_is_refused_afterwards() {
    let server = started(true).await;
    let names = ["id", "n", "_CHANGE_TYPE", "_CHANGE_SEQUENCE_NUMBER"];
    let rows = vec![
        row("a", 2, &["UPSERT", "B"]),
        row("a", 1, &["UPSERT", "A"]),
        row("b", 1, &["DELETE", "1"]),
    ];
    let sent = request(&default_stream(), &names, rows, None);
    assert_eq!(code(&append(&server, sent).await.unwrap()), Code::Ok);
    let rows = server.control().rows(TABLE);
    assert_eq!(json!(rows), json!([{ "id": "a", "n": 2 }]));
    assert_eq!(server.control().appended(TABLE).len(), 3);
    let bad = request(&default_stream(), &names, vec![row("a", 2, &["UPSERT", "x/1"])], None);
    assert_eq!(append(&server, bad).await.unwrap().row_errors.len(), 1);
    for statement in [
        "DELETE FROM `p.d.orders` WHERE id = 'a'",
        "MERGE INTO `p.d.orders` AS t USING (SELECT id, n FROM `p.d.orders`) AS s ON t.id = s.id \
         WHEN MATCHED THEN UPDATE SET n = s.n",
    ] {
        let (status, answer) =
            rest(&server, "POST", "queries", json!({ "query": statement })).await;
        assert_eq!(status, 400);
        let told = answer["error"]["message"].as_str().unwrap();
        assert!(told.contains("UPSERT streams"), "{statement}: {told}");
    }
}

#[tokio::test]
async fn of_equal_numbers_the_later_counts_and_deletions_are_forgotten() {
    let server = started(true).await;
    let names = ["id", "n", "_CHANGE_TYPE", "_CHANGE_SEQUENCE_NUMBER"];
    let control = server.control();
    let change = async |n, kind, number| {
        let sent = request(&default_stream(), &names, vec![row("a", n, &[kind, number])], None);
        assert_eq!(code(&append(&server, sent).await.unwrap()), Code::Ok);
        json!(control.rows(TABLE))
    };
    let only = |n: u8| json!([{ "id": "a", "n": n }]);
    assert_eq!(change(1, "UPSERT", "5/1").await, only(1));
    assert_eq!(change(2, "UPSERT", "0005/1").await, only(2));
    assert_eq!(change(3, "UPSERT", "5/0").await, only(2));
    assert_eq!(change(0, "DELETE", "5/1").await, json!([]));
    assert_eq!(change(4, "UPSERT", "5/0").await, json!([]));
    control.forget_deletes();
    assert_eq!(change(5, "UPSERT", "4").await, only(5));
    // A row that was not deleted keeps its number.
    control.forget_deletes();
    assert_eq!(change(6, "UPSERT", "3").await, only(5));
}

#[tokio::test]
async fn changes_without_a_key_are_refused() {
    let server = started(false).await;
    let names = ["id", "n", "_CHANGE_TYPE"];
    let sent = request(&default_stream(), &names, vec![row("a", 1, &["UPSERT"])], None);
    assert_eq!(code(&append(&server, sent).await.unwrap()), Code::InvalidArgument);
    assert_eq!(server.control().appended_count(TABLE), 0);
}

#[tokio::test]
async fn a_bad_row_refuses_its_whole_request_and_is_named_by_index() {
    let server = started(false).await;
    server.control().refuse_rows(TABLE, "id", "poison");
    let rows = vec![row("a", 1, &[]), row("poison", 1, &[]), vec![0x10, 1]];
    let answer =
        append(&server, request(&default_stream(), &["id", "n"], rows, None)).await.unwrap();
    assert_eq!(code(&answer), Code::InvalidArgument);
    assert_eq!(answer.row_errors.iter().map(|error| error.index).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(server.control().appended_count(TABLE), 0);
}

#[tokio::test]
async fn a_request_over_twenty_megabytes_is_refused_or_over_a_lower_limit() {
    let server = started(false).await;
    let rows = |count| vec![row("a", 1, &[]); count];
    let sent = |count| request(&default_stream(), &["id", "n"], rows(count), None);
    assert_eq!(append(&server, sent(3_000_000)).await.unwrap_err(), Code::InvalidArgument);
    assert_eq!(server.control().appended_count(TABLE), 0);
    assert_eq!(code(&append(&server, sent(10)).await.unwrap()), Code::Ok);
    server.control().limit_requests(100);
    assert_eq!(append(&server, sent(10)).await.unwrap_err(), Code::InvalidArgument);
    assert_eq!(server.control().appended_count(TABLE), 10);
}

#[tokio::test]
async fn faults_come_as_ordered_and_a_lost_answer_is_stored() {
    let server = started(false).await;
    let sent = || request(&default_stream(), &["id", "n"], vec![row("a", 1, &[])], None);
    server.control().fail_appends(1, AppendFault::EndsWith(Code::Unavailable));
    server.control().fail_appends(1, AppendFault::Answers(Code::ResourceExhausted));
    server.control().fail_appends(1, AppendFault::LosesAnswer);
    assert_eq!(append(&server, sent()).await.unwrap_err(), Code::Unavailable);
    assert_eq!(code(&append(&server, sent()).await.unwrap()), Code::ResourceExhausted);
    assert_eq!(server.control().appended_count(TABLE), 0);
    assert_eq!(append(&server, sent()).await.unwrap_err(), Code::Unavailable);
    assert_eq!(server.control().appended_count(TABLE), 1);
    server.control().revoke(true);
    assert_eq!(code(&append(&server, sent()).await.unwrap()), Code::PermissionDenied);
    server.control().revoke(false);
    server.control().delete_table(TABLE);
    assert_eq!(code(&append(&server, sent()).await.unwrap()), Code::NotFound);
    server.control().fail_rest(1, &RestFault { status: 503, body: "<html>".into() });
    assert_eq!(rest(&server, "GET", "datasets/d", json!({})).await.0, 503);
    assert_eq!(rest(&server, "GET", "datasets/d", json!({})).await.0, 200);
}

#[tokio::test]
async fn a_new_column_is_unknown_to_appends_until_it_has_spread() {
    let server = started(false).await;
    server.control().spread_schema_late();
    let fields = json!([{ "name": "id", "type": "STRING", "mode": "REQUIRED" },
        { "name": "n", "type": "INTEGER" }, { "name": "note", "type": "STRING" }]);
    let patch = json!({ "schema": { "fields": fields } });
    assert_eq!(rest(&server, "PATCH", "datasets/d/tables/orders", patch).await.0, 200);
    let sent =
        || request(&default_stream(), &["id", "n", "note"], vec![row("a", 1, &["hi"])], None);
    assert_eq!(code(&append(&server, sent()).await.unwrap()), Code::InvalidArgument);
    server.control().spread_schema();
    assert_eq!(code(&append(&server, sent()).await.unwrap()), Code::Ok);
    let retyped = json!({ "schema": { "fields": [{ "name": "id", "type": "INTEGER" }] } });
    assert_eq!(rest(&server, "PATCH", "datasets/d/tables/orders", retyped).await.0, 400);
}

#[tokio::test]
async fn where_one_column_alone_is_kept_rows_are_checked_all_the_same() {
    let server = started(true).await;
    server.control().keep_only("id");
    let names = ["id", "n", "_CHANGE_TYPE"];
    let rows = ["a", "b", "a"].map(|id| row(id, 1, &["UPSERT"])).to_vec();
    let sent = request(&default_stream(), &names, rows, None);
    assert_eq!(code(&append(&server, sent).await.unwrap()), Code::Ok);
    let bad = request(&default_stream(), &names, vec![row("c", 1, &["INSERT"])], None);
    assert_eq!(append(&server, bad).await.unwrap().row_errors.len(), 1);
    let keys: Vec<_> = server.control().arrivals(TABLE).into_iter().map(|row| row.key).collect();
    assert_eq!(keys, ["a", "b", "a"]);
    assert_eq!(server.control().appended_count(TABLE), 3);
    let merge = json!({ "query": "DELETE FROM `p.d.orders` WHERE id = 'a'" });
    assert_eq!(rest(&server, "POST", "queries", merge).await.0, 400);
}
