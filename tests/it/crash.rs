//! A server that is killed at any moment has what it acknowledged: the short version of `kindred bench crash`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use kindred::encoder::assets;
use serde_json::Value;

use crate::app::models;

fn bench_crash(folder: &Path, args: &[&str]) -> (Output, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kindred"));
    command.args(["bench", "crash", "--json", "-", "--folder"]).arg(folder).args(args);
    let output = command.arg("--model-dir").arg(models().join(assets::MODEL_NAME)).output().unwrap();
    let result = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output, result)
}

#[test]
fn nothing_acknowledged_is_lost_however_often_it_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (output, result) = bench_crash(dir.path(), &["--cycles", "25", "--seed", "4"]);
    assert!(output.status.success(), "{output:?}");
    for count in ["lost", "phantom", "duplicate", "torn", "wrong_answers", "refused_opens"] {
        assert_eq!(result[count], 0, "{count}: {result}");
    }
    assert_eq!(result["cycles"], 25);
    assert!(result["acknowledged_writes"].as_u64().unwrap() > 1_000, "{result}");
}

/// The test above says something only if it would notice: here the newest log loses its end before every start.
#[test]
#[cfg(unix)]
fn a_server_that_forgets_is_found_out() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().unwrap();
    let (folder, forgetful) = (dir.path().join("run"), dir.path().join("forgetful"));
    let script = format!(
        "#!/bin/sh\nfor log in $(ls {0}/data/crash/wal/*.log 2>/dev/null | tail -n 1); do\n  truncate -s -60000 \"$log\"\ndone\nexec {1} \"$@\"\n",
        folder.display(),
        env!("CARGO_BIN_EXE_kindred")
    );
    fs::write(&forgetful, script).unwrap();
    fs::set_permissions(&forgetful, fs::Permissions::from_mode(0o755)).unwrap();
    let args = ["--cycles", "5", "--seed", "1", "--rotate-log-bytes", "1000000000", "--binary", forgetful.to_str().unwrap()];
    let (output, result) = bench_crash(&folder, &args);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(result["lost"].as_u64().unwrap() > 0, "{result}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--seed 1") && folder.join("before-restart").exists(), "{output:?}");
}
