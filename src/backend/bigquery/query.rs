//! Queries and the pages of their results.
//!
//! The result of a query is fixed when it is done: all pages belong to one moment, however late they are read.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::rest::{Rest, RestError, escaped, text};

/// How long a query may take to answer before it is asked for again.
const PATIENCE: Duration = Duration::from_secs(10);
/// Rows on a page, at most; the service sends fewer where they are large.
const PAGE_ROWS: u32 = 10_000;

/// One row: a value for each column. Timestamps are microseconds.
pub(super) type Cells = Vec<Value>;

/// The result of a query, page by page.
pub(super) struct Pages<'a> {
    rest: &'a Rest,
    /// The last answer, and whether its rows were taken.
    answer: Value,
    taken: bool,
}

impl Rest {
    /// The rows that a query finds. `parameters` are texts with their names.
    pub(super) async fn query(
        &self,
        sql: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Vec<Cells>, RestError> {
        let mut pages = self.pages(sql, parameters).await?;
        let mut rows = Vec::new();
        while let Some(page) = pages.next().await? {
            rows.extend(page);
        }
        Ok(rows)
    }

    /// Starts a query whose rows may be too many to hold.
    pub(super) async fn pages(
        &self,
        sql: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Pages<'_>, RestError> {
        let parameters: Vec<_> = parameters
            .iter()
            .map(|(name, value)| {
                json!({
                    "name": name,
                    "parameterType": { "type": "STRING" },
                    "parameterValue": { "value": value },
                })
            })
            .collect();
        self.pages_with(sql, &parameters.into()).await
    }

    /// As [`Rest::pages`], with parameters as the service knows them.
    pub(super) async fn pages_with(
        &self,
        sql: &str,
        parameters: &Value,
    ) -> Result<Pages<'_>, RestError> {
        let body = json!({
            "query": sql,
            "useLegacySql": false,
            "parameterMode": "NAMED",
            "queryParameters": parameters,
            "location": self.location(),
            "maxResults": PAGE_ROWS,
            "timeoutMs": PATIENCE.as_millis().to_string(),
            "formatOptions": { "useInt64Timestamp": true },
        });
        let answer = self.send(Method::POST, "/queries", Some(&body), None).await?;
        Ok(Pages { rest: self, answer, taken: false })
    }
}

impl Pages<'_> {
    /// The next page, which may be empty; `None` behind the last one.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Cells>>, RestError> {
        loop {
            let complete = self.answer["jobComplete"] == json!(true);
            if complete && !self.taken {
                self.taken = true;
                return self.page().map(Some);
            }
            let page = text(&self.answer["pageToken"]);
            if complete && page.is_empty() {
                return Ok(None);
            }
            let path = format!(
                "/queries/{}?location={}&maxResults={PAGE_ROWS}&timeoutMs={}\
                 &formatOptions.useInt64Timestamp=true&pageToken={}",
                text(&self.answer["jobReference"]["jobId"]),
                self.rest.location(),
                PATIENCE.as_millis(),
                escaped(&page),
            );
            let mut answer = self.rest.send(Method::GET, &path, None, None).await?;
            if answer["jobReference"].is_null() {
                answer["jobReference"] = self.answer["jobReference"].take();
            }
            self.answer = answer;
            self.taken = false;
        }
    }

    fn page(&self) -> Result<Vec<Cells>, RestError> {
        let rows = self.answer["rows"].as_array().map_or(&[][..], Vec::as_slice);
        // Warnings come beside rows. Where nothing was found, that may be no answer to the question.
        if rows.is_empty()
            && let Some(error) = self.answer["errors"].as_array().and_then(|errors| errors.first())
        {
            return Err(RestError::Invalid(text(&error["message"])));
        }
        Ok(rows.iter().map(cells).collect())
    }
}

fn cells(row: &Value) -> Cells {
    row["f"].as_array().into_iter().flatten().map(|cell| cell["v"].clone()).collect()
}
