//! The real binary: its commands, exit codes, and a server on a free port.

#[path = "common/process.rs"]
mod process;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use process::{Server, command, run, text};

/// Seconds of processor time that a process has taken, in all its threads; on a busy machine the clock says more than that.
#[cfg(target_os = "linux")]
fn processor_s(process: u32) -> f64 {
    /// `USER_HZ`, in which the kernel counts for user space on every platform of this project.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("the process is there");
    // Behind the name, which may hold spaces: the state is field 3, user and system time are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks = |field: usize| fields[field - 3].parse::<f64>().expect("a number of ticks");
    (ticks(14) + ticks(15)) / TICKS_PER_SECOND
}

#[test]
fn the_demo_is_ready_for_a_second_of_processor_time_and_answers_a_tile() {
    let server = Server::start(&[]);
    assert_eq!(server.get("/health/ready").0, 200);
    #[cfg(target_os = "linux")]
    {
        let taken_s = processor_s(server.id());
        // In hundredths of a second: a quick machine may show none.
        assert!(taken_s < 1.0, "{taken_s} s");
    }
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

/// A frame of RFC 9113, 4.1.
fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), content].concat()
}

#[test]
fn http_2_is_spoken_without_tls_to_those_who_begin_with_it() {
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const END_OF_STREAM_AND_HEADERS: u8 = 5;
    let server = Server::start(&[]);
    let field = |index: u8, text: &str| [&[0x40 | index, text.len() as u8], text.as_bytes()].concat();
    // GET and http by their places in the table of RFC 7541, A; then the path and the authority as texts.
    let fields = [&[0x82, 0x86][..], &field(4, "/health/live"), &field(1, &server.address)].concat();
    let mut stream = TcpStream::connect(&server.address).expect("a connection");
    let request = frame(HEADERS, END_OF_STREAM_AND_HEADERS, 1, &fields);
    let begin = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, 0, &[])[..], &request].concat();
    stream.write_all(&begin).expect("it takes requests");
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).expect("an answer in frames");
        let mut content = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut content).expect("a whole frame");
        if head[3] == HEADERS {
            assert_eq!(content[0], 0x88, "the status 200 in the table of RFC 7541, A");
            return;
        }
    }
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
    let until = |server: &Server, wanted: &[&str]| {
        let deadline = Instant::now() + Duration::from_secs(300);
        loop {
            let (_, found) = server.get(job["links"]["self"].as_str().expect("a link"));
            let found: serde_json::Value = serde_json::from_slice(&found).expect("JSON");
            if wanted.iter().any(|state| found["state"] == *state) {
                return found;
            }
            assert!(Instant::now() < deadline, "{found}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    // Had the machine been too busy for us to look while it ran, the job would be done, and kept all the same.
    until(&server, &["running", "done"]);
    drop(server);
    let server = Server::start(&arguments);
    let done = until(&server, &["done"]);
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

/// A file that fits a model of the demo, and one of no known model: with another number of categories, and names that its training
/// code has put a prefix before.
#[test]
fn inspect_ends_with_a_manifest_that_serves_the_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str| directory.path().join(name);
    let trees = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/static/demo/trees.safetensors")).expect("it is there");
    std::fs::write(file("trees.safetensors"), trees).expect("it is written");
    let world = include_bytes!("../static/demo/world.safetensors");
    let world = safetensors::SafeTensors::deserialize(world).expect("a file of tensors");
    let tensors = world.iter().filter(|(name, _)| !name.starts_with("heads.0.")).map(|(name, tensor)| {
        // The second head becomes the only one.
        let name = name.replacen("heads.1.", "heads.0.", 1);
        (format!("model.{name}"), tensor)
    });
    safetensors::serialize_to_file(tensors, None, &file("lit_module.safetensors")).expect("it is written");
    for name in ["trees", "lit_module"] {
        let path = file(&format!("{name}.safetensors"));
        let inspected = text(&run(&["models", "inspect", path.to_str().expect("a UTF-8 path")]).stdout);
        let (_, manifest) = inspected.split_once("\n# This manifest").expect("a manifest at the end");
        let (_, manifest) = manifest.split_once('\n').expect("a line of advice");
        assert_eq!(manifest.contains("prefix = \"model.\""), name == "lit_module", "{manifest}");
        std::fs::write(file(&format!("{name}.toml")), manifest).expect("it is written");
    }
    let server = Server::start(&["--models-dir", directory.path().to_str().expect("a UTF-8 path")]);
    for id in ["trees-own", "lit_module"] {
        let (status, model) = server.get(&format!("/v1/models/{id}"));
        assert_eq!(status, 200, "{id}");
        let model: serde_json::Value = serde_json::from_slice(&model).expect("JSON");
        let task = model["tasks"][0]["name"].as_str().expect("a task");
        let raster =
            std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/static/demo/trees_osbs.tif")).expect("it is there");
        let (status, body) = server.ask(&format!("POST /v1/predict/{id}/{task}"), "Content-Type: image/tiff\r\n", &raster);
        assert_eq!(status, 200, "{id}: {}", text(&body));
    }
}

#[test]
fn pull_unpacks_fine_tuned_models_from_their_archive_if_it_is_in_the_models_directory() {
    const ARCHIVE: &str = "satlas_explorer_datasets_modelsonly_2023-07-24.tar";
    let directory = tempfile::tempdir().expect("a temporary directory");
    let models_dir = directory.path().to_str().expect("a UTF-8 path");
    let pull = |id: &str| run(&["models", "pull", id, "--models-dir", models_dir]);
    let ids = ["marine_infrastructure", "solar_farm", "tree_cover", "wind_turbine"];
    let members = ids.map(|name| format!("satlas_explorer_datasets/models/{name}/best.pth"));
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
fn a_flag_wins_over_the_environment_that_over_the_file_and_that_over_the_default() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let settings = "port = 9001\nqueue = 3\nmax-batch = 5\ncors = [\"https://file.example.org\"]\n";
    std::fs::write(file.path(), settings).expect("it is written");
    let printed = command(&["--port", "9003", "--print-config"])
        .env("SATLAS_CONFIG", file.path())
        .envs([
            ("SATLAS_PORT", "9002"),
            ("SATLAS_QUEUE", "4"),
            ("SATLAS_CORS", "https://a.example.org;https://b.example.org"),
        ])
        .output()
        .expect("the binary runs");
    assert!(printed.status.success(), "{}", text(&printed.stderr));
    let found: toml::Table = text(&printed.stdout).parse().expect("TOML");
    for (key, wanted) in [("port", 9003), ("queue", 4), ("max-batch", 5), ("window", 512)] {
        assert_eq!(found[key].as_integer(), Some(wanted), "{key}");
    }
    assert_eq!(found["cors"].to_string(), r#"["https://a.example.org", "https://b.example.org"]"#);
}

#[test]
fn an_empty_variable_leaves_the_keys_of_the_file_in_force() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "api-key = [\"the-key-of-the-file\"]\n").expect("it is written");
    let printed = command(&["--print-config"])
        .envs([("SATLAS_CONFIG", file.path().to_str().expect("UTF-8")), ("SATLAS_API_KEY", "")])
        .output()
        .expect("the binary runs");
    assert!(text(&printed.stdout).contains("api-key = [\"********\"]"), "{}", text(&printed.stdout));
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
    let mut process =
        command(&["bench", "--model", "trees", "--task", "embedding", "--size", "64", "--batch", "2", "--paced"])
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
