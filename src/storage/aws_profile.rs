//! Keys in the files of the AWS command line, `~/.aws/credentials` and `~/.aws/config`, which `object_store` does not read.
//!
//! Profiles with keys of their own are read. Those that must run a programme, open a browser or take on a role first are
//! refused by name: the `aws configure export-credentials` command turns them into variables.

use std::path::{Path, PathBuf};

/// Values of those variables that are set.
pub(super) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The files take a few kB.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Settings whose keys another service hands out.
const INDIRECT: [&str; 6] =
    ["role_arn", "sso_session", "sso_start_url", "credential_process", "credential_source", "login_session"];

/// What a profile says. A setting that is absent is `None`.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct AwsProfile {
    pub(super) key_id: Option<String>,
    pub(super) secret: Option<String>,
    pub(super) token: Option<String>,
    pub(super) region: Option<String>,
    /// The setting that says where else the keys come from.
    indirect: Option<&'static str>,
}

impl AwsProfile {
    /// Reads the profile that `AWS_PROFILE` names (`default` otherwise) from `AWS_SHARED_CREDENTIALS_FILE` and
    /// `AWS_CONFIG_FILE`, or from the folder `.aws` of `HOME`.
    ///
    /// # Errors
    /// If a profile is named that neither file has, or that has no keys of its own.
    pub(super) fn read(variable: Variables<'_>) -> Result<Self, String> {
        let named = variable("AWS_PROFILE");
        let name = named.as_deref().unwrap_or("default");
        let text = |file: &str, default: &str| {
            let path = variable(file).map(PathBuf::from);
            let path = path.or_else(|| Some(Path::new(&variable("HOME")?).join(".aws").join(default)));
            path.and_then(|path| read_bounded(&path)).unwrap_or_default()
        };
        let mut profile = Self::default();
        let mut is_known = false;
        for (text, is_config) in
            [(text("AWS_SHARED_CREDENTIALS_FILE", "credentials"), false), (text("AWS_CONFIG_FILE", "config"), true)]
        {
            is_known |= profile.add(&text, name, is_config);
        }
        match (named, profile.indirect) {
            (Some(name), _) if !is_known => Err(format!("AWS_PROFILE is {name}, which neither of the AWS files has")),
            (Some(name), Some(setting)) if profile.key_id.is_none() => Err(format!(
                "the AWS profile {name} gets its keys by {setting}; set the variables that `aws configure export-credentials` prints"
            )),
            _ => Ok(profile),
        }
    }

    /// Takes what is not known yet from the profile's section; true if the text has one.
    fn add(&mut self, text: &str, name: &str, is_config: bool) -> bool {
        let mut is_inside = false;
        let mut is_known = false;
        for line in text.lines() {
            // Indented lines are settings of single services.
            if line.starts_with([' ', '\t', '#', ';']) {
                continue;
            }
            if let Some(section) = line.trim_end().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                let section = section.trim();
                let bare = section.strip_prefix("profile ").map(str::trim);
                // Only the default profile has no prefix in the second file.
                is_inside =
                    if is_config && name != "default" { bare == Some(name) } else { bare.unwrap_or(section) == name };
                is_known |= is_inside;
                continue;
            }
            let Some((key, value)) = line.split_once('=').filter(|_| is_inside) else { continue };
            let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
            if let Some(setting) = INDIRECT.into_iter().find(|setting| *setting == key) {
                self.indirect.get_or_insert(setting);
            }
            let place = match key.as_str() {
                "aws_access_key_id" => &mut self.key_id,
                "aws_secret_access_key" => &mut self.secret,
                "aws_session_token" => &mut self.token,
                "region" => &mut self.region,
                _ => continue,
            };
            if !value.is_empty() {
                place.get_or_insert_with(|| value.to_owned());
            }
        }
        is_known
    }
}

fn read_bounded(path: &Path) -> Option<String> {
    let size = std::fs::metadata(path).ok()?.len();
    (size <= MAX_FILE_BYTES).then(|| std::fs::read_to_string(path).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "\
# ours
[default]
aws_access_key_id = first
aws_secret_access_key=one

[maps]
aws_access_key_id=second
aws_secret_access_key = two = 2
aws_session_token=temporary
";
    const CONFIG: &str = "\
[default]
region = eu-north-1
s3 =
  region = not-this-one
[profile maps]
region=us-west-2
[profile staff]
sso_session = office
";

    fn read(profile: Option<&str>) -> Result<AwsProfile, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("a file");
            path.to_str().expect("UTF-8").to_owned()
        };
        let (credentials, config) = (write("credentials", CREDENTIALS), write("config", CONFIG));
        AwsProfile::read(&|name| match name {
            "AWS_PROFILE" => profile.map(str::to_owned),
            "AWS_SHARED_CREDENTIALS_FILE" => Some(credentials.clone()),
            "AWS_CONFIG_FILE" => Some(config.clone()),
            _ => None,
        })
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn both_files_tell_of_a_profile() {
        let first = read(None).expect("the default");
        assert_eq!((first.key_id, first.secret, first.region), (some("first"), some("one"), some("eu-north-1")));
        let second = read(Some("maps")).expect("a profile");
        assert_eq!((second.key_id, second.secret), (some("second"), some("two = 2")));
        assert_eq!((second.token, second.region), (some("temporary"), some("us-west-2")));
    }

    #[test]
    fn a_named_profile_without_keys_is_an_error_that_says_why() {
        let error = read(Some("staff")).err().expect("no keys");
        assert!(error.contains("sso_session") && error.contains("export-credentials"), "{error}");
        let error = read(Some("nobody")).err().expect("no such profile");
        assert!(error.contains("nobody"), "{error}");
    }

    #[test]
    fn a_machine_without_the_files_has_an_empty_profile() {
        assert!(AwsProfile::read(&|_| None).is_ok_and(|profile| profile == AwsProfile::default()));
    }
}
