//! The settings of a command line: shared by `kindred` and `kindred-bench`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use crate::config::{Layers, Sources};

/// Settings that are often changed; --set changes any.
#[derive(Debug, Args)]
pub struct SettingsArgs {
    /// File with settings, added to the defaults (kindred.toml in the working folder is read without being named)
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Any setting, for example --set search.ef_search=200 (config/default.toml lists them; KINDRED__SEARCH__EF_SEARCH works too)
    #[arg(long, global = true, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Folder of the collections [setting storage.data_dir]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Folder of the model [setting encoder.model_dir]
    #[arg(long, global = true, value_name = "DIR")]
    model_dir: Option<PathBuf>,
    /// cpu, cuda:N or auto [setting encoder.device]
    #[arg(long, global = true)]
    device: Option<String>,
}

impl SettingsArgs {
    /// Reads the settings of all sources. `listen` is the value of a command's own `--listen`.
    ///
    /// # Errors
    /// An unreadable file, an unknown setting, a value of the wrong type.
    pub fn read(&self, listen: Option<&str>) -> Result<Layers> {
        let mut flags = self.set.clone();
        let quoted = |path: &Path| format!("{:?}", path.to_string_lossy());
        flags.extend(self.data_dir.as_deref().map(|dir| format!("storage.data_dir={}", quoted(dir))));
        flags.extend(self.model_dir.as_deref().map(|dir| format!("encoder.model_dir={}", quoted(dir))));
        flags.extend(self.device.as_ref().map(|device| format!("encoder.device={device:?}")));
        flags.extend(listen.map(|address| format!("http.listen={address:?}")));
        Ok(Layers::read(&Sources { file: self.config.as_deref(), environment: environment(), flags })?)
    }

    /// Returns the same settings as arguments of another program that takes them.
    pub fn to_args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::new();
        let mut push = |name: &str, value: OsString| args.extend([name.into(), value]);
        for setting in &self.set {
            push("--set", setting.into());
        }
        for (name, path) in [("--config", &self.config), ("--data-dir", &self.data_dir), ("--model-dir", &self.model_dir)] {
            if let Some(path) = path {
                push(name, path.into());
            }
        }
        if let Some(device) = &self.device {
            push("--device", device.into());
        }
        args
    }
}

/// Variables that are not Unicode cannot be settings.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}
