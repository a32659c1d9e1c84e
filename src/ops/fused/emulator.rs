//! Runs kernels on the CPU, in tests: `src/kernels/cuda/emulator.cpp` is compiled with the kernels once, with sanitizers of
//! addresses and undefined behaviour, and started for every launch.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use candle_core::{CpuStorage, DType, Layout, Result, Storage};
use half::{bf16, f16};
use sha2::{Digest, Sha256};

use super::launch::Started;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/kernels/cuda");
const FLAGS: [&str; 11] = [
    "-x",
    "c++",
    "-std=c++17",
    "-O1",
    "-g",
    "-Wall",
    "-Wno-unknown-pragmas",
    // As nvcc has it: kernels read numbers as words.
    "-fno-strict-aliasing",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-DSATLAS_EMULATED",
];

/// Whether this machine can run kernels on its CPU; says so where it cannot. In CI, on Linux, it must.
pub(crate) fn kernels_can_be_emulated() -> bool {
    match program() {
        Ok(_) => true,
        Err(reason) => {
            let must = cfg!(target_os = "linux") && std::env::var_os("CI").is_some();
            assert!(!must, "the kernels cannot be tested: {reason}");
            eprintln!("SKIPPED: the kernels for GPUs, as {reason}");
            false
        }
    }
}

/// The compiled emulator, or why there is none.
fn program() -> std::result::Result<&'static Path, &'static str> {
    static PROGRAM: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    PROGRAM.get_or_init(compile).as_deref().map_err(String::as_str)
}

fn compile() -> std::result::Result<PathBuf, String> {
    if !cfg!(target_os = "linux") {
        return Err("the emulator's fibres need Linux".to_owned());
    }
    let mut sources: Vec<PathBuf> = std::fs::read_dir(SOURCES)
        .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
        .map_err(|error| format!("{SOURCES} cannot be read: {error}"))?
        .iter()
        .map(std::fs::DirEntry::path)
        .filter(|path| {
            path.extension().is_some_and(|extension| ["cu", "cuh", "cpp", "hpp"].iter().any(|ours| extension == *ours))
        })
        .collect();
    sources.sort();
    let mut hash = Sha256::new();
    FLAGS.iter().for_each(|flag| hash.update(flag));
    for source in sources {
        hash.update(std::fs::read(&source).map_err(|error| format!("{} cannot be read: {error}", source.display()))?);
    }
    let name: String = hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let here = std::env::current_exe().map_err(|error| error.to_string())?;
    let program = here.with_file_name(format!("kernel-emulator-{name}"));
    if program.exists() {
        return Ok(program);
    }
    // Another test programme may compile it at the same time.
    let unfinished = here.with_file_name(format!("kernel-emulator-{name}-{}", std::process::id()));
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let compiled =
        Command::new(&compiler).args(FLAGS).arg("emulator.cpp").arg("-o").arg(&unfinished).current_dir(SOURCES).output();
    let output = compiled.map_err(|error| format!("{} cannot be started: {error}", compiler.display()))?;
    assert!(output.status.success(), "the kernels do not compile:\n{}", String::from_utf8_lossy(&output.stderr));
    std::fs::rename(&unfinished, &program).map_err(|error| error.to_string())?;
    Ok(program)
}

/// Runs a launch; `first` is its first input.
pub(super) fn run(started: &Started<'_>, first: &CpuStorage, layout: &Layout) -> Result<CpuStorage> {
    let (launch, count) = (started.launch, started.shape.elem_count());
    let name = launch.entry_point();
    let mut message = Vec::new();
    let word = |message: &mut Vec<u8>, word: usize| message.extend(u32::try_from(word).unwrap().to_le_bytes());
    word(&mut message, name.len());
    message.extend(name.as_bytes());
    for number in [launch.blocks, launch.threads, launch.shared_bytes] {
        message.extend(number.to_le_bytes());
    }
    message.extend(((count * launch.dtype.size_in_bytes()) as u64).to_le_bytes());
    word(&mut message, 1 + started.others.len());
    push_input(&mut message, &bytes(first, layout)?);
    for other in &started.others {
        let input = other.as_ref().map(|other| {
            let (storage, layout) = other.storage_and_layout();
            let Storage::Cpu(storage) = &*storage else { candle_core::bail!("the emulator reads main memory") };
            bytes(storage, layout)
        });
        push_input(&mut message, &input.transpose()?.unwrap_or_default());
    }
    word(&mut message, launch.scalars.len());
    message.extend(launch.scalars.iter().flat_map(|scalar| scalar.to_le_bytes()));
    let output = call(&message).map_err(candle_core::Error::msg)?;
    Ok(match launch.dtype {
        DType::F32 => {
            CpuStorage::F32(output.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
        }
        DType::BF16 => CpuStorage::BF16(output.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]])).collect()),
        DType::F16 => CpuStorage::F16(output.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect()),
        other => candle_core::bail!("no kernel computes in {other:?}"),
    })
}

fn push_input(message: &mut Vec<u8>, input: &[u8]) {
    message.extend((input.len() as u64).to_le_bytes());
    message.extend(input);
}

/// The bytes of a tensor without gaps.
fn bytes(storage: &CpuStorage, layout: &Layout) -> Result<Vec<u8>> {
    let Some((start, end)) = layout.contiguous_offsets() else { candle_core::bail!("{layout:?} has gaps") };
    Ok(match storage {
        CpuStorage::F32(values) => values[start..end].iter().flat_map(|value| value.to_le_bytes()).collect(),
        CpuStorage::BF16(values) => values[start..end].iter().flat_map(|value| value.to_le_bytes()).collect(),
        CpuStorage::F16(values) => values[start..end].iter().flat_map(|value| value.to_le_bytes()).collect(),
        _ => candle_core::bail!("no kernel reads such a tensor"),
    })
}

/// What the emulator answers, or the error it ends with.
fn call(message: &[u8]) -> std::result::Result<Vec<u8>, String> {
    let program = program()?;
    let child = Command::new(program)
        // It ends with all of its memory still in use.
        .env("ASAN_OPTIONS", "detect_leaks=0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|error| error.to_string())?;
    // The emulator reads everything before it writes. One that fails closes the pipe: then its message counts.
    let sent = child.stdin.take().map(|mut stdin| stdin.write_all(message));
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    match (output.status.success(), sent) {
        (true, Some(Ok(()))) => Ok(output.stdout),
        _ => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
