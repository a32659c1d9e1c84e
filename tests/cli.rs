//! The real binary: its commands, exit codes, and a server on a free port.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_satlas-serve"))
        .args(arguments)
        .env_remove("RUST_BACKTRACE")
        .output()
        .expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A server that ends with the test.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_satlas-serve"))
            .args(["--port", "0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("stdout is piped")).read_line(&mut line).expect("a line of text");
        let address = line.trim().rsplit("http://").next().expect("an address").to_owned();
        Self { process, address }
    }

    /// Status and body of a GET request.
    fn get(&self, path: &str) -> (u16, Vec<u8>) {
        self.ask(&format!("GET {path}"), "", &[])
    }

    fn ask(&self, method_and_path: &str, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).expect("the printed address is listened on");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out can be set");
        let (address, length) = (&self.address, body.len());
        let always = format!("Host: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n");
        write!(stream, "{method_and_path} HTTP/1.1\r\n{always}{headers}\r\n").expect("it takes requests");
        stream.write_all(body).expect("it takes bodies");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let status = text(&answer[9..12]).parse().expect("a status code");
        (status, answer.split_off(head + 4))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_demo_is_ready_within_a_second_and_answers_a_tile() {
    let started = Instant::now();
    let server = Server::start(&[]);
    assert_eq!(server.get("/health/ready").0, 200);
    let ready = started.elapsed();
    assert!(ready < Duration::from_secs(1), "{ready:?}");
    let (status, body) = server.get("/v1/tiles/world/coast/4/8/6.png?source=world");
    assert_eq!(status, 200);
    assert!(body.starts_with(b"\x89PNG"));
}

#[test]
fn synthetic_weights_serve_any_model_and_say_so() {
    let server = Server::start(&["--weights", "synthetic:7"]);
    let (status, body) = server.get("/v1/models/Sentinel2_SwinT_SI_RGB");
    assert_eq!(status, 200);
    let model: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(model["weights"]["kind"], "synthetic");
}

#[test]
fn a_job_outlives_a_server_that_is_killed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let arguments = ["--data-dir", directory.path().to_str().expect("a UTF-8 path"), "--weights", "offline"];
    let server = Server::start(&arguments);
    // A grey image of so many windows that the server is still busy with them when it is killed.
    let mut raster = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    raster.extend(format!("{:<117}\n", "{'descr': '|u1', 'fortran_order': False, 'shape': (3, 2048, 2048), }").bytes());
    raster.resize(raster.len() + 3 * 2048 * 2048, 127);
    let headers = "Prefer: respond-async\r\nContent-Type: application/x-npy\r\n";
    let (status, job) = server.ask("POST /v1/predict/trees/embedding", headers, &raster);
    let job: serde_json::Value = serde_json::from_slice(&job).expect("JSON");
    assert_eq!(status, 202, "{job}");
    let until = |server: &Server, wanted: &str| {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let (_, found) = server.get(job["links"]["self"].as_str().expect("a link"));
            let found: serde_json::Value = serde_json::from_slice(&found).expect("JSON");
            if found["state"] == wanted {
                return found;
            }
            assert!(Instant::now() < deadline, "{found}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    until(&server, "running");
    drop(server);
    let server = Server::start(&arguments);
    let done = until(&server, "done");
    let (status, result) = server.get(done["links"]["result"].as_str().expect("a link"));
    assert_eq!((status, result.len() as u64), (200, done["result_bytes"].as_u64().expect("a size")));
}

#[test]
fn predict_writes_the_answer_to_a_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = directory.path().join("crowns.geojson");
    let input = concat!(env!("CARGO_MANIFEST_DIR"), "/static/demo/trees_osbs.tif");
    let arguments = ["predict", "--model", "trees", "--task", "tree_crown", "--input", input, "--output"];
    let ran = run(&[&arguments[..], &[output.to_str().expect("a UTF-8 path")]].concat());
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    let answer: serde_json::Value = serde_json::from_slice(&std::fs::read(output).expect("a file")).expect("JSON");
    let features = answer["features"].as_array().expect("features");
    // The held-out image has 61 annotated crowns, of which the model finds about a fifth.
    assert!((10..80).contains(&features.len()), "{}", features.len());
}

#[test]
fn models_are_listed_and_shown() {
    let list = run(&["models", "list"]);
    assert!(list.status.success(), "{}", text(&list.stderr));
    for id in ["Sentinel2_SwinB_SI_RGB", "Satlas_wind_turbine", "world"] {
        assert!(text(&list.stdout).contains(id), "{id}");
    }
    let shown = run(&["models", "show", "Aerial_SwinB_SI"]);
    assert!(text(&shown.stdout).contains("land_cover"), "{}", text(&shown.stdout));
}

#[test]
fn inspect_names_the_model_a_checkpoint_fits() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/static/demo/world.safetensors");
    let inspected = run(&["models", "inspect", file]);
    assert!(inspected.status.success(), "{}", text(&inspected.stderr));
    assert!(text(&inspected.stdout).contains("world"), "{}", text(&inspected.stdout));
}

#[test]
fn pull_says_where_the_fine_tuned_models_are_and_unpacks_them() {
    const ARCHIVE: &str = "satlas_explorer_datasets_modelsonly_2023-07-24.tar";
    let directory = tempfile::tempdir().expect("a temporary directory");
    let models_dir = directory.path().to_str().expect("a UTF-8 path");
    let pull = |id: &str| run(&["models", "pull", id, "--models-dir", models_dir]);
    let (mut members, ids) = (Vec::new(), ["marine_infrastructure", "solar_farm", "tree_cover", "wind_turbine"]);
    for id in ids.map(|name| format!("Satlas_{name}")) {
        let told = text(&pull(&id).stderr);
        for part in [ARCHIVE, "https://github.com/allenai/satlas", models_dir] {
            assert!(told.contains(part), "{id}: {told}");
        }
        members.push(told.split(" is not in ").next().and_then(|head| head.rsplit(' ').next()).expect("a file").to_owned());
    }
    let mut tar = tar::Builder::new(std::fs::File::create(directory.path().join(ARCHIVE)).expect("a file"));
    for member in &members {
        let mut header = tar::Header::new_gnu();
        header.set_size(member.len() as u64);
        tar.append_data(&mut header, member, member.as_bytes()).expect("it is written");
    }
    tar.finish().expect("it is written");
    for (id, member) in ids.map(|name| format!("Satlas_{name}")).iter().zip(&members) {
        let pulled = pull(id);
        assert!(pulled.status.success(), "{}", text(&pulled.stderr));
        let answer = text(&pulled.stdout);
        let path = answer.trim().strip_prefix(&format!("{id}: ")).expect("the id and the file");
        assert_eq!(&text(&std::fs::read(path).expect("it is there")), member);
    }
}

#[test]
fn the_configuration_can_be_seen_without_its_secrets() {
    let printed = run(&["--port", "9000", "--api-key", "a-long-secret-key-of-ours", "--print-config"]);
    let printed_text = text(&printed.stdout);
    assert!(printed.status.success(), "{}", text(&printed.stderr));
    assert!(printed_text.contains("9000") && !printed_text.contains("a-long-secret-key-of-ours"), "{printed_text}");
}

#[test]
fn mistakes_are_one_line_with_an_exit_code() {
    let unknown = run(&["models", "show", "Sentinel9"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert_eq!(text(&unknown.stderr).lines().count(), 1, "{}", text(&unknown.stderr));
    assert_eq!(run(&["--no-such-flag"]).status.code(), Some(2));
    let missing = run(&["models", "inspect", "/no/such/file.pth"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("/no/such/file.pth"), "{}", text(&missing.stderr));
}

#[test]
fn a_paced_bench_runs_one_pass_for_each_line() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_satlas-serve"))
        .args(["bench", "--model", "trees", "--task", "embedding", "--size", "64", "--batch", "2", "--paced"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    process.stdin.take().expect("stdin is piped").write_all(b"\n\n").expect("it reads");
    let output = process.wait_with_output().expect("it ends with its stdin");
    let answer = text(&output.stdout);
    let lines: Vec<&str> = answer.lines().collect();
    assert_eq!(lines[0], "ready");
    assert!(lines[1..3].iter().all(|line| line.parse::<f64>().is_ok_and(|seconds| seconds > 0.0)), "{answer}");
    let figures: serde_json::Value = serde_json::from_str(&lines[3..].join("\n")).expect("the figures are JSON");
    assert_eq!((figures["runs"].as_u64(), figures["batch"].as_u64()), (Some(2), Some(2)));
}

#[test]
fn a_bench_says_which_batches_there_are() {
    let output = run(&["bench", "--model", "trees", "--task", "embedding", "--batch", "0"]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("batch: found 0; a number from 1 to 64 is needed"), "{}", text(&output.stderr));
}
