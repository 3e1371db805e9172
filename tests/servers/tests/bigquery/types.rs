//! Which protobuf types fill which columns, and with which values.

use super::*;

/// Appends one row to a table of one column, `v` of a type, from a field of a protobuf type.
async fn append_value(
    server: &BigQueryServer,
    column: &str,
    field: Type,
    row: Vec<u8>,
) -> api::AppendRowsResponse {
    let table = json!({
        "tableReference": { "tableId": column },
        "schema": { "fields": [{ "name": "v", "type": column }] },
    });
    rest(server, "POST", "datasets/d/tables", table).await;
    let stream = format!("projects/p/datasets/d/tables/{column}/streams/_default");
    let mut sent = request(&stream, &["v"], vec![row], None);
    if let Some(Rows::ProtoRows(ProtoData { writer_schema: Some(schema), .. })) = &mut sent.rows {
        schema.proto_descriptor.as_mut().unwrap().field[0].r#type = Some(field.into());
    }
    append(server, sent).await.unwrap()
}

#[tokio::test]
async fn integers_come_as_the_protobuf_types_that_are_documented() {
    let server = started(false).await;
    let varint = || vec![0x08, 5];
    for field in [Type::Int32, Type::Int64, Type::Uint32, Type::Enum] {
        let answer = append_value(&server, "INTEGER", field, varint()).await;
        assert_eq!(code(&answer), Code::Ok, "{field:?}");
    }
    let rows = server.control().rows("p.d.INTEGER");
    assert_eq!(json!(rows), json!([{ "v": 5 }, { "v": 5 }, { "v": 5 }, { "v": 5 }]));
    let long = || vec![0x09, 5, 0, 0, 0, 0, 0, 0, 0];
    let short = || vec![0x0d, 5, 0, 0, 0];
    for (field, row) in [
        (Type::Sint32, varint()),
        (Type::Sint64, varint()),
        (Type::Uint64, varint()),
        (Type::Bool, varint()),
        (Type::Fixed32, short()),
        (Type::Sfixed32, short()),
        (Type::Fixed64, long()),
        (Type::Sfixed64, long()),
        (Type::Double, long()),
    ] {
        let answer = append_value(&server, "INTEGER", field, row).await;
        assert_eq!((code(&answer), answer.row_errors.len()), (Code::InvalidArgument, 0));
    }
    assert_eq!(server.control().appended_count("p.d.INTEGER"), 4);
}

#[tokio::test]
async fn a_bignumeric_is_a_number_of_255_bits_and_a_sign() {
    let server = started(false).await;
    let most = "578960446186580977117854925043439539266.34992332820282019728792003956564819967";
    let beyond = "578960446186580977117854925043439539266.34992332820282019728792003956564819968";
    let minus = format!("-{beyond}");
    let below = "-578960446186580977117854925043439539266.34992332820282019728792003956564819969";
    let nines = "9".repeat(38);
    for (text, fits) in [
        ("0", true),
        (most, true),
        (&*minus, true),
        (&*nines, true),
        ("578960446186580977117854925043439539266", true),
        ("0000000000000000000000000000000000000000000001", true),
        (beyond, false),
        (below, false),
        ("578960446186580977117854925043439539267", false),
        ("1000000000000000000000000000000000000000", false),
        ("0.000000000000000000000000000000000000001", false),
    ] {
        let before = server.control().appended_count("p.d.BIGNUMERIC");
        let mut row = vec![0x0a, u8::try_from(text.len()).unwrap()];
        row.extend(text.as_bytes());
        let answer = append_value(&server, "BIGNUMERIC", Type::String, row).await;
        let after = server.control().appended_count("p.d.BIGNUMERIC");
        assert_eq!((answer.row_errors.is_empty(), after - before == 1), (fits, fits), "{text}");
    }
}

#[tokio::test]
async fn a_required_column_is_relaxed_and_no_other_becomes_required() {
    let server = started(false).await;
    let path = "datasets/d/tables/orders";
    let change = async |id: &str, n: &str| {
        let fields = json!([{ "name": "id", "type": "STRING", "mode": id },
            { "name": "n", "type": "INTEGER", "mode": n }]);
        rest(&server, "PATCH", path, json!({ "schema": { "fields": fields } })).await.0
    };
    let without_id = || request(&default_stream(), &["id", "n"], vec![vec![0x10, 1]], None);
    assert_eq!(append(&server, without_id()).await.unwrap().row_errors.len(), 1);
    assert_eq!(change("REQUIRED", "REQUIRED").await, 400);
    assert_eq!(change("REQUIRED", "REPEATED").await, 400);
    assert_eq!(change("NULLABLE", "NULLABLE").await, 200);
    assert_eq!(code(&append(&server, without_id()).await.unwrap()), Code::Ok);
    assert_eq!(change("REQUIRED", "NULLABLE").await, 400);
    assert_eq!(
        server.control().resource(TABLE).unwrap()["schema"]["fields"][0]["mode"],
        "NULLABLE"
    );
    assert_eq!(server.control().appended_count(TABLE), 1);
}

#[tokio::test]
async fn columns_stay_in_their_order_and_new_ones_come_last() {
    let server = started(false).await;
    let path = "datasets/d/tables/orders";
    let patch = async |fields: Value| {
        rest(&server, "PATCH", path, json!({ "schema": { "fields": fields } })).await
    };
    let id = || json!({ "name": "id", "type": "STRING", "mode": "REQUIRED" });
    let n = || json!({ "name": "n", "type": "INTEGER" });
    let note = |mode: &str| json!({ "name": "note", "type": "STRING", "mode": mode });
    assert_eq!(patch(json!([note("REQUIRED"), n(), id()])).await.0, 400);
    assert_eq!(patch(json!([n(), note("NULLABLE")])).await.0, 400);
    let (status, answer) = patch(json!([note("NULLABLE"), n(), id()])).await;
    assert_eq!((status, &answer["schema"]["fields"]), (200, &json!([id(), n(), note("NULLABLE")])));
    let sent = request(&default_stream(), &["id", "n", "note"], vec![row("a", 1, &["hi"])], None);
    assert_eq!(code(&append(&server, sent).await.unwrap()), Code::Ok);
    assert_eq!(json!(server.control().rows(TABLE)), json!([{ "id": "a", "n": 1, "note": "hi" }]));
}

#[tokio::test]
async fn held_permissions_are_returned_and_none_for_a_missing_table() {
    let server = started(false).await;
    server.control().deny("bigquery.tables.updateData");
    let asked = json!({ "permissions": ["bigquery.tables.get", "bigquery.tables.updateData"] });
    for (table, held) in
        [("orders", json!({ "permissions": ["bigquery.tables.get"] })), ("missing", json!({}))]
    {
        let path = format!("datasets/d/tables/{table}:testIamPermissions");
        assert_eq!(rest(&server, "POST", &path, asked.clone()).await, (200, held), "{table}");
    }
}
