//! Requests counted by route and status, with the series looked up once and not for each request.

use std::collections::HashMap;
use std::sync::RwLock;

use axum::http::StatusCode;
use metrics::{Counter, Histogram};

use crate::sync::IgnorePoison;
use crate::telemetry;

/// The series of all routes that were asked so far.
#[derive(Default)]
pub(super) struct RouteMetrics {
    by_route: RwLock<HashMap<String, RouteSeries>>,
}

/// The series of one route.
struct RouteSeries {
    seconds: Histogram,
    answered: HashMap<StatusCode, Counter>,
}

impl RouteMetrics {
    /// Counts a request that was answered with `status` after so many seconds.
    pub(super) fn count(&self, route: &str, status: StatusCode, seconds: f64) {
        let known = self.by_route.read().ignore_poison();
        if let Some(series) = known.get(route)
            && let Some(answered) = series.answered.get(&status)
        {
            answered.increment(1);
            series.seconds.record(seconds);
            return;
        }
        drop(known);
        let mut known = self.by_route.write().ignore_poison();
        let series = known.entry(route.to_owned()).or_insert_with(|| RouteSeries {
            seconds: metrics::histogram!(telemetry::HTTP_REQUEST_SECONDS, "route" => route.to_owned()),
            answered: HashMap::new(),
        });
        let labels = [("route", route.to_owned()), ("status", status.as_u16().to_string())];
        let new = || metrics::counter!(telemetry::HTTP_REQUESTS_TOTAL, &labels);
        series.answered.entry(status).or_insert_with(new).increment(1);
        series.seconds.record(seconds);
    }
}
