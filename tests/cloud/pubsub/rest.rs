//! The administration beside the small server: permissions, a subscription's description, seek.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use kappa_test_servers::grpc;
use serde_json::{Value, json};

use super::server::Server;

/// Serves it, and answers with its address.
pub(super) async fn start(server: Server) -> String {
    let (listener, address) = grpc::listen().await.unwrap();
    let router =
        axum::Router::new().route("/v1/{*path}", post(call).get(describe)).with_state(server);
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

fn error(status: StatusCode, name: &str) -> (StatusCode, Json<Value>) {
    let error = json!({ "code": status.as_u16(), "message": "refused", "status": name });
    (status, Json(json!({ "error": error })))
}

async fn describe(
    Path(_): Path<String>,
    State(server): State<Server>,
) -> (StatusCode, Json<Value>) {
    if server.books.lock().unwrap().missing {
        return error(StatusCode::NOT_FOUND, "NOT_FOUND");
    }
    error(StatusCode::FORBIDDEN, "PERMISSION_DENIED")
}

async fn call(
    Path(path): Path<String>,
    State(server): State<Server>,
    Json(body): Json<Value>,
) -> (StatusCode, Json<Value>) {
    let permitted = server.books.lock().unwrap().permitted;
    if path.ends_with(":testIamPermissions") {
        let held = if permitted { body["permissions"].clone() } else { json!([]) };
        return (StatusCode::OK, Json(json!({ "permissions": held })));
    }
    if path.ends_with(":seek") && permitted {
        server.seek_to_start();
        return (StatusCode::OK, Json(json!({})));
    }
    error(StatusCode::FORBIDDEN, "PERMISSION_DENIED")
}
