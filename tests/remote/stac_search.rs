//! STAC APIs as sources: what is searched for, how often, and what happens where the host misbehaves.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use satlas_serve::config::ServerSettings;
use satlas_serve::error::ErrorKind;
use satlas_serve::georef::{Crs, GeoTransform, Georef};
use satlas_serve::raster::{
    CaptureSelection, ChunkCache, DatetimeRange, Limits, OpenOptions, RasterError, Resampling, Source,
};
use satlas_serve::storage::{Client, ClientOptions, RemotePolicy};
use serde_json::{Value, json};

use crate::common::{Reply as Answer, demo, loopback, post_to, router_with, send, settings};
use crate::host::{Asked, Host, Reply};

fn fixture(path: &str) -> std::io::Result<Vec<u8>> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/stac").join(path))
}

/// The fixtures' items, newest first as catalogues send them, each saying where its references start.
fn items() -> Vec<Value> {
    let collection: Value = serde_json::from_slice(&fixture("items.json").unwrap()).unwrap();
    let mut items = collection["features"].as_array().unwrap().clone();
    items.reverse();
    for item in &mut items {
        item["links"] = json!([{"rel": "self", "href": "/files/item"}]);
    }
    items
}

fn page(items: &[Value]) -> Reply {
    Reply::new(200, json!({"type": "FeatureCollection", "features": items, "links": []}).to_string())
}

/// A file below `/files/`.
fn serve(asked: &Asked) -> Reply {
    match asked.target.strip_prefix("/files/").map(fixture) {
        Some(Ok(bytes)) => Reply::part(&bytes, asked),
        _ => Reply::new(404, "nothing"),
    }
}

fn is_search(asked: &Asked) -> bool {
    asked.target.split('?').next() == Some("/v1/search")
}

/// What was sent by POST.
fn document(asked: &Asked) -> Value {
    assert_eq!((asked.method.as_str(), asked.header("content-type")), ("POST", Some("application/json")));
    serde_json::from_slice(&asked.body).unwrap()
}

/// A host with some items, whatever is asked for.
fn host_with(items: Vec<Value>) -> Host {
    Host::start(move |asked, _| if is_search(asked) { page(&items) } else { serve(asked) })
}

fn searches(host: &Host) -> Vec<String> {
    host.asked().into_iter().filter(is_search).map(|asked| asked.target).collect()
}

fn open(host: &Host, query: &str) -> Result<Arc<Source>, RasterError> {
    let policy = RemotePolicy { hosts: vec!["127.0.0.1".to_owned()], allow_private: true };
    let patience = ClientOptions { retry_delay: Duration::from_millis(1), ..ClientOptions::default() };
    let remote = Some(Arc::new(Client::new(policy, patience)));
    let options = OpenOptions { limits: Limits::NONE, chunks: ChunkCache::new(16 << 20), remote };
    let location = format!("stac+{}", host.url(&format!("/v1?collections=sentinel-2-l1c{query}")));
    Source::open("s", &[location.into()], &options).map(Arc::new)
}

/// A pixel of 10 m, `col` pixels east of the western scenes' edge.
fn pixel(col: usize) -> Georef {
    let transform = GeoTransform::north_up(600_000.0 + 10.0 * col as f64, 4_999_600.0, 10.0, 10.0);
    Georef { crs: Crs::from_epsg(32632).unwrap(), transform, width: 1, height: 1 }
}

/// The values of the first band in each capture that is found at a pixel.
fn values(source: &Arc<Source>, col: usize, datetime: Option<&str>) -> Vec<f32> {
    let range = datetime.map(|text| text.parse::<DatetimeRange>().unwrap());
    let found = source.at(&pixel(col), range.as_ref()).unwrap();
    let read = |capture| found.read(capture, &pixel(col), &[0], Resampling::Nearest).unwrap().pixels[0];
    (0..found.captures().len()).map(read).collect()
}

#[test]
fn captures_are_found_where_somebody_looks() {
    let host = host_with(items());
    let source = open(&host, "&datetime=2024-06-01/2024-07-01&max_cloud=20&token=topsecret").unwrap();
    let described = source.describe();
    assert!(source.captures().is_empty() && described.datetimes.is_empty());
    assert_eq!(described.bands.len(), 5);
    let bounds = described.extent.unwrap().bounds_lon_lat;
    assert_eq!((bounds.min_x, bounds.max_x), (-180.0, 180.0));

    assert_eq!(values(&source, 10, None), [1000.0, 3000.0]);
    assert_eq!(values(&source, 80, None), [2000.0, 0.0], "of two scenes of a day, that which is there");
    let asked = searches(&host);
    assert_eq!(asked.len(), 2, "one for the bands, and one for the neighbourhood: {asked:?}");
    for part in [
        "token=topsecret",
        "collections=sentinel-2-l1c",
        "bbox=10.25,45,10.5,45.25",
        "datetime=2024-06-01T00:00:00Z/2024-07-01T23:59:59Z",
        "eo%3Acloud_cover",
    ] {
        assert!(asked[1].contains(part), "{part}: {}", asked[1]);
    }
    assert!(!format!("{source:?}").contains("topsecret"));
}

#[test]
fn conditions_hold_whatever_the_host_sends() {
    let mut clouded = items();
    clouded[1]["properties"]["eo:cloud_cover"] = json!(80.0);
    let host = host_with(clouded);
    let source = open(&host, "&max_cloud=20").unwrap();
    assert_eq!(values(&source, 40, None), [1000.0, 3000.0], "the eastern scene lies under clouds");
    assert_eq!(values(&source, 40, Some("2024-06-11")), [3000.0]);
    assert_eq!(values(&source, 40, Some("../2024-06-05")), [1000.0]);
    assert!(values(&source, 40, Some("2030-01-01")).is_empty());
    let within = open(&host, "&datetime=2024-06-01/2024-06-05").unwrap();
    let before = searches(&host).len();
    assert!(values(&within, 40, Some("2024-06-11")).is_empty());
    assert_eq!(searches(&host).len(), before, "no instant is in both ranges, which nobody needs to be asked for");
    let elsewhere = open(&host, "&bbox=20,45,21,46").unwrap();
    let before = searches(&host).len();
    assert!(values(&elsewhere, 40, None).is_empty());
    assert_eq!(searches(&host).len(), before, "outside of its own bounds nothing is searched for");
}

#[test]
fn a_host_that_knows_no_clouds_is_asked_without_them() {
    let mut clouded = items();
    clouded[0]["properties"]["eo:cloud_cover"] = json!(80.0);
    let host = Host::start(move |asked, _| match is_search(asked) {
        true if asked.target.contains("query=") => Reply::new(400, "what is query?"),
        true => page(&clouded),
        false => serve(asked),
    });
    assert_eq!(values(&open(&host, "&max_cloud=20").unwrap(), 10, None), [1000.0]);
}

#[test]
fn scenes_are_put_together_as_the_location_says() {
    let host = host_with(items());
    assert_eq!(values(&open(&host, "&mosaic=newest").unwrap(), 40, None), [3000.0]);
    assert_eq!(values(&open(&host, "&mosaic=newest").unwrap(), 80, None), [2000.0], "gaps are filled from older scenes");
    assert_eq!(values(&open(&host, "&mosaic=first").unwrap(), 40, None), [1000.0]);
}

#[test]
fn pages_are_followed_and_end() {
    let all = items();
    let host = Host::start(move |asked, _| {
        if !is_search(asked) {
            return serve(asked);
        }
        let at = asked.target.split("page=").nth(1).map_or(0, |number| number.parse::<usize>().unwrap());
        // The last page names itself as the next.
        let next = format!("/v1/search?page={}", (at + 1).min(2));
        let links = json!([{"rel": "next", "href": next}]);
        Reply::new(200, json!({"type": "FeatureCollection", "features": [all[at]], "links": links}).to_string())
    });
    let source = open(&host, "&max_items=3").unwrap();
    let before = searches(&host).len();
    assert_eq!(values(&source, 10, None), [1000.0, 3000.0]);
    assert_eq!(searches(&host).len(), before + 3);
    let source = open(&host, "&max_items=1000").unwrap();
    let before = searches(&host).len();
    assert_eq!(values(&source, 10, None).len(), 2);
    assert_eq!(searches(&host).len(), before + 10, "as many pages as are followed");
}

#[test]
fn a_host_that_takes_no_get_is_asked_by_post() {
    let all = items();
    for (query, gets) in [("", true), ("&method=post", false)] {
        let all = all.clone();
        let host = Host::start(move |asked, _| match is_search(asked) {
            true if asked.method == "GET" => Reply::new(405, "POST it"),
            true => page(&all),
            false => serve(asked),
        });
        let query = format!("&datetime=2024-06-01/2024-07-01&max_cloud=20&token=topsecret{query}");
        let source = open(&host, &query).unwrap();
        let before = host.asked().len();
        assert_eq!(values(&source, 10, None), [1000.0, 3000.0]);
        let asked: Vec<Asked> = host.asked()[before..].iter().filter(|asked| is_search(asked)).cloned().collect();
        assert_eq!(asked.len(), if gets { 2 } else { 1 });
        let asked = asked.last().unwrap();
        assert_eq!(asked.target, "/v1/search?token=topsecret");
        let sent = document(asked);
        assert_eq!(
            sent,
            json!({"collections": ["sentinel-2-l1c"], "bbox": [10.25, 45.0, 10.5, 45.25], "limit": 100,
                   "datetime": "2024-06-01T00:00:00Z/2024-07-01T23:59:59Z", "query": {"eo:cloud_cover": {"lte": 20.0}}})
        );
    }
}

#[test]
fn next_pages_are_asked_for_by_post_where_their_link_says_so() {
    for (query, merge) in [("&method=post", true), ("&method=post", false), ("", true)] {
        let all = items();
        let host = Host::start(move |asked, _| {
            if !is_search(asked) {
                return serve(asked);
            }
            let at = if asked.method == "GET" { 0 } else { document(asked)["page"].as_u64().unwrap_or(0) as usize };
            let body = json!({"page": at + 1, "limit": 1});
            let next = json!({"rel": "next", "method": "POST", "href": "search", "body": body, "merge": merge});
            let links = if at < 2 { json!([{"rel": "self", "href": "search"}, next]) } else { json!([]) };
            Reply::new(200, json!({"type": "FeatureCollection", "features": [all[at]], "links": links}).to_string())
        });
        let source = open(&host, query).unwrap();
        let before = host.asked().len();
        assert_eq!(values(&source, 10, None), [1000.0, 3000.0]);
        let asked: Vec<Asked> = host.asked()[before..].iter().filter(|asked| is_search(asked)).cloned().collect();
        assert_eq!(asked.len(), 3);
        for (page, asked) in asked.iter().enumerate().skip(1) {
            let whole =
                json!({"collections": ["sentinel-2-l1c"], "bbox": [10.25, 45.0, 10.5, 45.25], "page": page, "limit": 1});
            let wanted = if merge { whole } else { json!({"page": page, "limit": 1}) };
            assert_eq!(document(asked), wanted);
        }
    }
}

#[test]
fn a_search_by_post_does_without_clouds_where_the_host_knows_none() {
    let mut clouded = items();
    clouded[0]["properties"]["eo:cloud_cover"] = json!(80.0);
    let host = Host::start(move |asked, _| match is_search(asked) {
        true if asked.method == "GET" => Reply::new(405, "POST it"),
        true if document(asked).get("query").is_some() => Reply::new(400, "what is query?"),
        true => page(&clouded),
        false => serve(asked),
    });
    assert_eq!(values(&open(&host, "&max_cloud=20").unwrap(), 10, None), [1000.0]);
}

#[test]
fn an_item_that_lacks_a_band_is_left_out() {
    let mut some = items();
    some[2]["assets"].as_object_mut().unwrap().remove("rededge1");
    assert_eq!(values(&open(&host_with(some), "").unwrap(), 10, None).len(), 2, "the eastern scene of that day is left");
    let mut some = items();
    some[1]["assets"] = json!({});
    some[2]["assets"] = json!({});
    assert_eq!(values(&open(&host_with(some), "").unwrap(), 10, None), [3000.0]);
}

#[test]
fn an_odd_item_of_a_page_is_left_out_with_a_warning() {
    let changes: [fn(&mut Value); 7] = [
        |item| *item = json!(null),
        |item| item["assets"] = json!("none"),
        |item| item["assets"]["red"]["href"] = json!("https://elsewhere.example.org/B04.tif"),
        |item| item["assets"]["red"]["href"] = json!("s3://elsewhere/B04.tif"),
        |item| item["assets"]["red"]["href"] = json!("."),
        |item| item["assets"]["red"]["href"] = json!("/files/west_2/"),
        |item| item["properties"]["eo:cloud_cover"] = json!("clear"),
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut some = items();
        change(&mut some[0]);
        let source = open(&host_with(some), "&max_cloud=20").unwrap();
        let wanted: &[f32] = if index == 6 { &[1000.0, 3000.0] } else { &[1000.0] };
        assert_eq!(values(&source, 10, None), wanted, "change {index}");
        let found = source.at(&pixel(10), None).unwrap();
        let warnings = found.capture(0).unwrap().raster.warnings();
        assert_eq!(warnings.len(), usize::from(index < 6), "change {index}: {warnings:?}");
    }
    let nothing = host_with(vec![json!(null)]);
    assert!(open(&nothing, "").unwrap_err().to_string().contains("an item without id"));
}

#[test]
fn a_link_to_further_items_that_cannot_be_followed_is_told() {
    for next in [json!({"rel": "next"}), json!({"rel": "next", "href": "x", "method": "PUT"})] {
        let all = items();
        let host = Host::start(move |asked, _| match is_search(asked) {
            true => {
                Reply::new(200, json!({"type": "FeatureCollection", "features": all, "links": [null, next]}).to_string())
            }
            false => serve(asked),
        });
        let source = open(&host, "").unwrap();
        let found = source.at(&pixel(10), None).unwrap();
        let warnings = found.capture(0).unwrap().raster.warnings().join("\n");
        assert!(warnings.contains("further items"), "{warnings}");
    }
}

#[test]
fn a_search_that_fails_is_explained() {
    for (reply, kind, words) in [
        (Reply::new(500, "oops"), ErrorKind::Upstream, "500"),
        (Reply::new(400, "no"), ErrorKind::Upstream, "400"),
        (Reply::new(200, "<html>"), ErrorKind::Unusable, "STAC"),
        (Reply::new(200, "{\"type\": \"Catalog\", \"stac_version\": \"1.0.0\"}"), ErrorKind::Unusable, "Catalog"),
        (page(&[]), ErrorKind::Unusable, "finds no item"),
        (Reply::new(302, "").header("location", "http://10.0.0.1/"), ErrorKind::Invalid, "10.0.0.1"),
    ] {
        let host = Host::start(move |_, _| reply.clone());
        let error = open(&host, "&token=topsecret").unwrap_err();
        assert!(error.kind() == kind && error.to_string().contains(words), "{error}");
        assert!(!error.to_string().contains("topsecret"), "{error}");
    }
    let all = items();
    let host = Host::start(move |asked, _| match is_search(asked) {
        true if asked.target.contains("bbox") => Reply::new(503, "busy"),
        true => page(&all),
        false => serve(asked),
    });
    let error = open(&host, "").unwrap().at(&pixel(10), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Upstream);
}

#[test]
fn captures_that_are_searched_for_have_no_numbers() {
    let source = open(&host_with(items()), "").unwrap();
    let wanted = CaptureSelection { captures: Some(vec![0]), datetime: None };
    for source in [&source, &source.at(&pixel(10), None).unwrap()] {
        let error = source.select(&wanted).unwrap_err();
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("use datetime"), "{error}");
    }
}

/// A host whose items are the demo imagery of the world, in two years.
fn world_host() -> Host {
    let world = demo("world.tif");
    let bands = json!([{"name": "red"}, {"name": "green"}, {"name": "blue"}]);
    let item = |year: u16| {
        json!({"type": "Feature", "stac_version": "1.1.0", "id": format!("world-{year}"),
            "properties": {"datetime": format!("{year}-01-01T00:00:00Z")},
            "links": [{"rel": "self", "href": "/items/world"}],
            "assets": {"data": {"href": "./world.tif", "type": "image/tiff", "bands": bands}}})
    };
    let items = [item(2005), item(2004)];
    Host::start(move |asked, _| match asked.target.as_str() {
        _ if is_search(asked) => page(&items),
        "/items/world.tif" => Reply::part(&world, asked),
        _ => Reply::new(404, "nothing"),
    })
}

async fn get(router: &Router, path: &str) -> Answer {
    send(router, Request::get(path).body(Body::empty()).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_is_served_as_the_files_it_finds() {
    let host = world_host();
    let location = format!("stac+{}", host.url("/v1/search?collections=world&token=topsecret"));
    let server =
        ServerSettings { source: vec![format!("far={location}")], remote: loopback(false), ..ServerSettings::default() };
    let router = router_with(settings().0, server);
    let tile = "/v1/tiles/world/water/3/4/3.png?source=SOURCE";
    for path in ["/v1/sources/SOURCE/tiles/3/4/2.png", tile] {
        let near = get(&router, &path.replace("SOURCE", "world")).await;
        let far = get(&router, &path.replace("SOURCE", "far")).await;
        assert_eq!(far.status, 200, "{}", String::from_utf8_lossy(&far.body));
        assert!(far.body == near.body, "{path}");
    }
    let before = host.asked().len();
    let far = tile.replace("SOURCE", "far");
    let first = get(&router, &far).await;
    let request = Request::get(&far).header("if-none-match", first.header("etag")).body(Body::empty()).unwrap();
    assert_eq!(send(&router, request).await.status, 304);
    assert_eq!(host.asked().len(), before, "a revalidation asks nobody");
    let older = get(&router, &format!("{far}&datetime=2004-01-01")).await;
    assert_eq!(older.status, 200);
    assert_ne!(older.header("etag"), first.header("etag"), "other captures are another answer");
    let nothing = get(&router, &format!("{far}&datetime=2030-01-01")).await;
    let nothing = image::load_from_memory(&nothing.body).unwrap().into_rgba8();
    assert!(nothing.pixels().all(|pixel| pixel.0[3] == 0));
    get(&router, &format!("{far}&captures=1")).await.problem(400);
    get(&router, "/v1/sources/far/tiles/3/4/2.png?capture=1").await.problem(400);
    assert_eq!(get(&router, "/v1/sources/far/tilejson.json").await.status, 200);
    let list = get(&router, "/v1/sources").await;
    assert!(!String::from_utf8_lossy(&list.body).contains("topsecret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_may_search_hosts_on_the_list_alone() {
    let host = world_host();
    let reference = |place: &str| json!({"id": "far", "url": format!("stac+{place}")}).to_string();
    let allowed = ServerSettings { remote: loopback(true), ..ServerSettings::default() };
    let router = router_with(settings().0, allowed);
    let refused =
        post_to(&router, "/v1/sources", "application/json", reference("https://example.org/v1?collections=a")).await;
    assert!(refused.problem(400).contains("--allow-host example.org"));
    let malformed = post_to(&router, "/v1/sources", "application/json", reference(&host.url("/v1"))).await;
    assert!(malformed.problem(400).contains("collections"));
    let created = post_to(&router, "/v1/sources", "application/json", reference(&host.url("/v1?collections=a"))).await;
    assert_eq!(created.status, 201, "{}", String::from_utf8_lossy(&created.body));
    assert_eq!(created.json()["captures"], json!([]));
}
