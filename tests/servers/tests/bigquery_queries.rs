//! Queries of the BigQuery server: MERGE, arrays, types and pages.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

use kappa_test_servers::bigquery::BigQueryServer;
use serde_json::{Value, json};

struct Dataset {
    server: BigQueryServer,
}

impl Dataset {
    /// With the tables `t` and `s`, each of an id, a number, a truth and a day.
    async fn start() -> Self {
        let dataset = Self { server: BigQueryServer::start().await.unwrap() };
        let body = json!({ "datasetReference": { "datasetId": "d" } });
        dataset.rest("POST", "datasets", body).await;
        for name in ["t", "s"] {
            let fields = json!([
                { "name": "id", "type": "STRING" }, { "name": "n", "type": "INTEGER" },
                { "name": "b", "type": "BOOLEAN" }, { "name": "day", "type": "DATE" },
            ]);
            let table =
                json!({ "tableReference": { "tableId": name }, "schema": { "fields": fields } });
            assert_eq!(dataset.rest("POST", "datasets/d/tables", table).await.0, 200);
        }
        dataset
    }

    async fn rest(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let url = format!("{}/bigquery/v2/projects/p/{path}", self.server.rest_endpoint());
        let method = method.parse().unwrap();
        let answer = reqwest::Client::new().request(method, url).json(&body).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or(Value::Null))
    }

    async fn query(&self, sql: &str) -> Value {
        let (status, answer) = self.rest("POST", "queries", json!({ "query": sql })).await;
        assert_eq!(status, 200, "{sql}: {answer}");
        answer
    }

    async fn refused(&self, sql: &str) -> String {
        let (status, answer) = self.rest("POST", "queries", json!({ "query": sql })).await;
        assert_eq!(status, 400, "{sql}: {answer}");
        answer["error"]["message"].as_str().unwrap().to_owned()
    }

    async fn fill(&self, table: &str, rows: &str) {
        self.query(&format!("INSERT INTO `p.d.{table}` (id, n) VALUES {rows}")).await;
    }

    /// Ids and numbers of the table `t`.
    async fn rows(&self) -> Vec<(String, String)> {
        let answer = self.query("SELECT id, n FROM `p.d.t` ORDER BY id, n").await;
        let text = |cell: &Value| cell["v"].as_str().unwrap_or("NULL").to_owned();
        let rows = answer["rows"].as_array().unwrap();
        rows.iter().map(|row| (text(&row["f"][0]), text(&row["f"][1]))).collect()
    }
}

fn owned(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    rows.iter().map(|&(id, n)| (id.to_owned(), n.to_owned())).collect()
}

#[tokio::test]
async fn a_merge_lets_the_first_clause_of_a_row_count() {
    let dataset = Dataset::start().await;
    dataset.fill("t", "('a', 1), ('b', 1), ('b', 2), ('c', 1), ('x', 1), ('y', 1)").await;
    dataset.fill("s", "('a', 5), ('b', 6), ('c', 0), ('d', 7), ('e', 0)").await;
    let answer = dataset
        .query(
            "MERGE INTO `p.d.t` AS t USING (SELECT id, n FROM `p.d.s`) AS s ON t.id = s.id \
             WHEN MATCHED AND s.n = 0 THEN DELETE \
             WHEN MATCHED THEN UPDATE SET n = t.n + s.n \
             WHEN NOT MATCHED AND s.n > 0 THEN INSERT (id, n) VALUES (s.id, s.n * 10) \
             WHEN NOT MATCHED BY SOURCE AND t.id = 'x' THEN UPDATE SET n = NULL \
             WHEN NOT MATCHED BY SOURCE THEN DELETE",
        )
        .await;
    let stats = json!({
        "insertedRowCount": "1", "updatedRowCount": "4", "deletedRowCount": "2",
    });
    assert_eq!((&answer["dmlStats"], &answer["numDmlAffectedRows"]), (&stats, &json!("7")));
    let expected = [("a", "6"), ("b", "7"), ("b", "8"), ("d", "70"), ("x", "NULL")];
    assert_eq!(dataset.rows().await, owned(&expected));
}

#[tokio::test]
async fn a_merge_that_matches_a_row_twice_is_refused_and_changes_nothing() {
    let dataset = Dataset::start().await;
    dataset.fill("t", "('a', 1)").await;
    dataset.fill("s", "('a', 5), ('a', 6), ('b', 1)").await;
    let merge = |clause: &str| {
        format!(
            "MERGE `p.d.t` t USING `p.d.s` s ON t.id = s.id {clause} \
             WHEN NOT MATCHED THEN INSERT (id, n) VALUES (s.id, s.n)"
        )
    };
    for clause in [
        "WHEN MATCHED THEN UPDATE SET n = s.n",
        "WHEN MATCHED AND s.n = 5 THEN DELETE WHEN MATCHED THEN UPDATE SET n = s.n",
        "WHEN MATCHED AND s.n > 9 THEN UPDATE SET n = s.n WHEN MATCHED THEN DELETE",
    ] {
        let says = dataset.refused(&merge(clause)).await;
        assert_eq!(says, "UPDATE/MERGE must match at most one source row for each target row");
    }
    assert_eq!(dataset.rows().await, owned(&[("a", "1")]));
    // Which is no fault where nothing is done with the row.
    dataset.query(&merge("WHEN MATCHED AND s.n > 9 THEN UPDATE SET n = s.n")).await;
    assert_eq!(dataset.rows().await, owned(&[("a", "1"), ("b", "1")]));
}

#[tokio::test]
async fn a_merge_that_only_deletes_may_match_a_row_twice() {
    let dataset = Dataset::start().await;
    dataset.fill("t", "('a', 1), ('b', 1)").await;
    dataset.fill("s", "('a', 5), ('a', 6)").await;
    let merge = "MERGE `p.d.t` t USING `p.d.s` s ON t.id = s.id WHEN MATCHED THEN DELETE \
                 WHEN NOT MATCHED BY SOURCE THEN UPDATE SET n = 9";
    let answer = dataset.query(merge).await;
    assert_eq!(answer["dmlStats"]["deletedRowCount"], json!("1"));
    assert_eq!(dataset.rows().await, owned(&[("b", "9")]));
}

#[tokio::test]
async fn rows_are_changed_and_deleted_by_a_condition_alone() {
    let dataset = Dataset::start().await;
    dataset.fill("t", "('a', 1), ('b', 1)").await;
    for (sql, word) in [("DELETE FROM `p.d.t`", "DELETE"), ("UPDATE `p.d.t` SET n = 2", "UPDATE")] {
        let says = dataset.refused(sql).await;
        assert_eq!(says, format!("{word} must have a WHERE clause"));
    }
    assert_eq!(dataset.rows().await, owned(&[("a", "1"), ("b", "1")]));
    dataset.query("UPDATE `p.d.t` SET n = 2 WHERE TRUE").await;
    dataset.query("DELETE FROM `p.d.t` WHERE id = 'a'").await;
    assert_eq!(dataset.rows().await, owned(&[("b", "2")]));
}

#[tokio::test]
async fn a_query_has_at_most_1024_k_characters_and_10_000_parameters() {
    let dataset = Dataset::start().await;
    // A character of two bytes counts once.
    let text = |characters: usize| {
        let insert = "INSERT INTO `p.d.t` (id, n) VALUES ('a', 1) -- ";
        format!("{insert}{}", "ä".repeat(characters - insert.len()))
    };
    let says = dataset.refused(&text(1_048_577)).await;
    assert!(says.contains("The query is too large"), "{says}");
    assert!(dataset.rows().await.is_empty());
    dataset.query(&text(1_048_576)).await;
    let asked = |count: usize| {
        let parameter = |nth: usize| {
            json!({ "name": format!("p{nth}"), "parameterType": { "type": "INT64" },
                "parameterValue": { "value": "2" } })
        };
        let parameters: Vec<_> = (0..count).map(parameter).collect();
        json!({ "query": "UPDATE `p.d.t` SET n = @p0 WHERE TRUE", "queryParameters": parameters })
    };
    let (status, answer) = dataset.rest("POST", "queries", asked(10_001)).await;
    let says = "Too many query parameters: 10001 exceeds limit of 10000.";
    assert_eq!((status, &answer["error"]["message"]), (400, &json!(says)));
    assert_eq!(dataset.rows().await, owned(&[("a", "1")]));
    assert_eq!(dataset.rest("POST", "queries", asked(10_000)).await.0, 200);
    assert_eq!(dataset.rows().await, owned(&[("a", "2")]));
}

#[tokio::test]
async fn queries_that_the_service_refuses_are_refused() {
    let dataset = Dataset::start().await;
    for (sql, why) in [
        ("SELECT id FROM", "Syntax error"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("SELECT ARRAY_AGG(id) FROM `p.d.t`", "IGNORE NULLS"),
        (
            "MERGE `p.d.t` t USING `p.d.s` s ON t.id = s.id \
             WHEN MATCHED AND t.n IN (SELECT n FROM `p.d.s`) THEN DELETE",
            "Subqueries",
        ),
        ("MERGE `p.d.t` t USING `p.d.s` s ON t.id = s.id WHEN NOT MATCHED THEN DELETE", "Syntax"),
    ] {
        let says = dataset.refused(sql).await;
        assert!(says.contains(why), "{sql}: {says}");
    }
}

#[tokio::test]
async fn values_are_shown_as_texts_of_their_types() {
    let dataset = Dataset::start().await;
    // Days are held as numbers, as they are streamed.
    let insert =
        "INSERT INTO `p.d.t` (id, n, b, day) VALUES ('a', 2, TRUE, 20501), ('b', 1, NULL, NULL)";
    dataset.query(insert).await;
    let answer = dataset.query("SELECT n, b, day FROM `p.d.t` ORDER BY id LIMIT 1").await;
    assert_eq!(answer["rows"][0]["f"], json!([{"v": "2"}, {"v": "true"}, {"v": "2026-02-17"}]));
    let answer = dataset
        .query(
            "SELECT COUNTIF(b), ARRAY_AGG(id IGNORE NULLS ORDER BY n LIMIT 1), \
             TO_JSON_STRING(JSON_ARRAY(MAX(FORMAT_DATE('%F', day)), NULL)) FROM `p.d.t`",
        )
        .await;
    let cells = json!([{"v": "1"}, {"v": [{"v": "b"}]}, {"v": r#"["2026-02-17",null]"#}]);
    assert_eq!(answer["rows"][0]["f"], cells);
    assert_eq!(answer["schema"]["fields"][1]["mode"], json!("REPEATED"));
    let answer = dataset.query("SELECT FORMAT_TIMESTAMP('%Y-%m-%dT%H:%M:%E6SZ', -1)").await;
    assert_eq!(answer["rows"][0]["f"][0]["v"], json!("1969-12-31T23:59:59.999999Z"));
}

#[tokio::test]
async fn results_come_in_pages_that_do_not_change() {
    let dataset = Dataset::start().await;
    dataset.fill("t", "('a', 1), ('b', 2), ('c', 3), ('d', 4), ('e', 5)").await;
    let body = json!({ "query": "SELECT id FROM `p.d.t` ORDER BY id", "maxResults": 2 });
    let (_, mut answer) = dataset.rest("POST", "queries", body).await;
    let job = answer["jobReference"]["jobId"].as_str().unwrap().to_owned();
    dataset.query("DELETE FROM `p.d.t` WHERE TRUE").await;
    let mut pages = vec![answer["rows"].as_array().unwrap().len()];
    while let Some(token) = answer["pageToken"].as_str() {
        let token = token.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        let path = format!("queries/{job}?location=EU&maxResults=2&pageToken={token}");
        (_, answer) = dataset.rest("GET", &path, Value::Null).await;
        pages.push(answer["rows"].as_array().unwrap().len());
        assert_eq!(answer["totalRows"], json!("5"));
    }
    assert_eq!(pages, [2, 2, 1]);
    assert_eq!(dataset.rest("GET", "queries/nobody", Value::Null).await.0, 404);
}

/// The value of an expression in the answer to a query.
async fn value(dataset: &Dataset, expression: &str) -> Value {
    let answer = dataset.query(&format!("SELECT {expression} AS it")).await;
    answer["rows"][0]["f"][0]["v"].clone()
}

#[tokio::test]
async fn functions_of_bytes_answer_as_they_are_documented() {
    let dataset = Dataset::start().await;
    for (expression, expected) in [
        ("TO_HEX(FROM_HEX('00010203aaEEefff'))", json!("00010203aaeeefff")),
        ("TO_HEX(FROM_HEX('0AF'))", json!("00af")),
        ("FROM_HEX('0AF')", json!("AK8=")),
        ("TO_BASE64(b'\\xde\\xad\\xbe\\xef')", json!("3q2+7w==")),
        ("TO_HEX(FROM_BASE64('3q2+7w=='))", json!("deadbeef")),
        ("TO_HEX(SUBSTR(b'apple', 2))", json!("70706c65")),
        ("SUBSTR('apple', 2, 2)", json!("pp")),
        ("SUBSTR('apple', -2)", json!("le")),
        ("SUBSTR('apple', 0, 1)", json!("a")),
        ("SUBSTR('apple', -123, 2)", json!("ap")),
        ("SUBSTR('apple', 123)", json!("")),
        ("TO_HEX(SUBSTR(FROM_HEX('000102030405'), -4, 2))", json!("0203")),
        ("TO_HEX(SUBSTR(FROM_HEX('000102030405'), -24, 20))", json!("000102030405")),
        ("LENGTH(FROM_HEX('c3a4'))", json!("2")),
        ("TO_HEX(CONCAT(FROM_HEX('01'), b'a'))", json!("0161")),
        ("CONCAT('a', 'b')", json!("ab")),
        ("TO_HEX(FROM_HEX('0f') & FROM_HEX('f1'))", json!("01")),
        ("b'\\x7f' < b'\\x80'", json!("1")),
        ("b'\\xff' > b'\\xff\\x00'", json!("0")),
        ("TO_HEX(GREATEST(b'\\x01', b'\\x02'))", json!("02")),
        ("TO_HEX(CAST('a' AS BYTES))", json!("61")),
        ("FROM_HEX(NULL)", Value::Null),
    ] {
        assert_eq!(value(&dataset, expression).await, expected, "{expression}");
    }
    for (expression, refusal) in [
        ("FROM_HEX('0g')", "invalid hex"),
        ("FROM_BASE64('_')", "Failed to decode"),
        ("SUBSTR('apple', 1, -1)", "cannot be negative"),
        ("TO_HEX('00')", "No matching signature"),
        ("b'a' < 'a'", "No matching signature"),
        ("b'a' <= 7", "No matching signature"),
        ("b'a' & b'ab'", "equal length"),
    ] {
        let told = dataset.refused(&format!("SELECT {expression} AS it")).await;
        assert!(told.contains(refusal), "{expression}: {told}");
    }
}

#[tokio::test]
async fn a_column_of_bytes_is_ordered_joined_and_changed() {
    let dataset = Dataset::start().await;
    let fields =
        json!([{ "name": "id", "type": "STRING" }, { "name": "_version", "type": "BYTES" }]);
    let table = json!({ "tableReference": { "tableId": "v" }, "schema": { "fields": fields } });
    assert_eq!(dataset.rest("POST", "datasets/d/tables", table).await.0, 200);
    let rows = "('a', FROM_HEX('80')), ('b', FROM_HEX('7fff')), ('c', FROM_HEX('7f')), ('d', NULL)";
    dataset.query(&format!("INSERT INTO `p.d.v` (id, _version) VALUES {rows}")).await;
    let answer = dataset.query("SELECT id, _version FROM `p.d.v` ORDER BY _version DESC, id").await;
    assert_eq!(answer["schema"]["fields"][1]["type"], "BYTES");
    let cells: Vec<_> = answer["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["f"][0]["v"].clone(), row["f"][1]["v"].clone()))
        .collect();
    let expected = [("a", "gA=="), ("b", "f/8="), ("c", "fw==")].map(|(a, b)| (json!(a), json!(b)));
    assert_eq!(cells[..3], expected);
    assert_eq!(cells[3].1, Value::Null);
    // The greatest of each, compared and joined with a parameter.
    let parameter = json!([{ "name": "v", "parameterType": { "type": "BYTES" },
        "parameterValue": { "value": "f/8=" } }]);
    for (condition, ids) in [
        ("_version < @v", vec!["c"]),
        ("_version >= @v", vec!["a", "b"]),
        ("_version = @v", vec!["b"]),
        ("SUBSTR(_version, -2, 1) = b'\\x7f'", vec!["b", "c"]),
        ("_version = (SELECT MAX(_version) FROM `p.d.v`)", vec!["a"]),
    ] {
        let query = format!("SELECT id FROM `p.d.v` WHERE {condition} ORDER BY id");
        let body = json!({ "query": query, "queryParameters": parameter });
        let (status, answer) = dataset.rest("POST", "queries", body).await;
        assert_eq!(status, 200, "{condition}: {answer}");
        let found: Vec<_> = answer["rows"].as_array().into_iter().flatten().collect();
        let found: Vec<_> = found.iter().map(|row| row["f"][0]["v"].clone()).collect();
        assert_eq!(found, ids, "{condition}");
    }
    dataset
        .query(
            "MERGE INTO `p.d.v` AS t USING (SELECT 'a' AS id, FROM_HEX('81') AS _version) AS s \
             ON t.id = s.id AND t._version < s._version \
             WHEN MATCHED THEN UPDATE SET _version = s._version",
        )
        .await;
    let rows = dataset.server.control().rows("p.d.v");
    let of = |id: &str| rows.iter().find(|row| row["id"] == id).unwrap()["_version"].clone();
    assert_eq!((of("a"), of("b")), (json!("gQ=="), json!("f/8=")));
}

#[tokio::test]
async fn rows_of_equal_values_cannot_be_distinguished() {
    let dataset = Dataset::start().await;
    dataset.fill("t", "('a', 1), ('a', 1), ('b', 1)").await;
    for query in [
        "DELETE FROM `p.d.t` WHERE rowid = 1",
        "SELECT t.rowid FROM `p.d.t` AS t",
        "SELECT _ROWID_ FROM `p.d.t`",
    ] {
        let told = dataset.refused(query).await;
        assert!(told.contains("Unrecognized name"), "{query}: {told}");
    }
    let delete = "MERGE INTO `p.d.t` AS t USING (SELECT 'a' AS id) AS s ON t.id = s.id \
                  WHEN MATCHED THEN DELETE";
    assert_eq!(dataset.query(delete).await["numDmlAffectedRows"], "2");
    assert_eq!(dataset.rows().await, owned(&[("b", "1")]));
}

#[tokio::test]
async fn a_query_without_an_order_has_none() {
    let dataset = Dataset::start().await;
    let rows: Vec<_> = (0..20).map(|n| format!("('{n:02}', {n})")).collect();
    dataset.fill("t", &rows.join(", ")).await;
    let mut orders = std::collections::HashSet::new();
    for _ in 0..20 {
        let answer = dataset.query("SELECT id FROM `p.d.t`").await;
        orders.insert(answer["rows"].to_string());
    }
    assert!(orders.len() > 1);
}
