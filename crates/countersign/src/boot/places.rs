use countersign_core::config::Environment;
use std::path::Path;
use std::path::PathBuf;

/// Where an installation keeps its things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Spool, log, store, keys.
    pub data: PathBuf,
    /// The administration socket.
    pub socket: PathBuf,
}

/// The data folder of a project in development.
const PROJECT_DATA: &str = ".countersign";
const SYSTEM_DATA: &str = "/var/lib/countersign";
const SYSTEM_SOCKET: &str = "/run/countersign/admin/admin.sock";

impl Places {
    /// The places of an installation. Given ones win; otherwise production has those of the
    /// system, and development those of the folder that the configuration is in.
    #[must_use]
    pub fn new(
        environment: Environment,
        file: Option<&Path>,
        data: Option<&Path>,
        socket: Option<&Path>,
    ) -> Self {
        let dev = environment == Environment::Dev;
        let project = || beside(file).join(PROJECT_DATA);
        let data = match data {
            Some(data) => data.to_owned(),
            None if dev => project(),
            None => PathBuf::from(SYSTEM_DATA),
        };
        let socket = match socket {
            Some(socket) => socket.to_owned(),
            None if dev => in_data(&data),
            None => PathBuf::from(SYSTEM_SOCKET),
        };
        Self { data, socket }
    }
}

/// The socket a command talks to: the one given, that of the data folder given or of the project
/// if there is one, that of the system.
#[must_use]
pub fn admin_socket(file: Option<&Path>, data: Option<&Path>, socket: Option<&Path>) -> PathBuf {
    if let Some(socket) = socket {
        return socket.to_owned();
    }
    let data = data.map_or_else(|| beside(file).join(PROJECT_DATA), Path::to_owned);
    let local = in_data(&data);
    if local.exists() {
        local
    } else {
        PathBuf::from(SYSTEM_SOCKET)
    }
}

/// The user who runs this process, and so administers a development instance.
#[must_use]
pub fn operator() -> Option<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok()??;
    Some(user.name)
}

fn in_data(data: &Path) -> PathBuf {
    data.join("run/admin/admin.sock")
}

/// The folder of a file, as the user wrote it.
fn beside(file: Option<&Path>) -> PathBuf {
    let folder = file
        .and_then(Path::parent)
        .filter(|folder| !folder.as_os_str().is_empty());
    folder.map_or_else(PathBuf::new, Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn production_is_the_system_and_development_the_project() {
        let file = Some(Path::new("site/countersign.yaml"));
        let prod = Places::new(Environment::Prod, file, None, None);
        assert_eq!(prod.data, Path::new(SYSTEM_DATA));
        assert_eq!(prod.socket, Path::new(SYSTEM_SOCKET));
        let dev = Places::new(Environment::Dev, file, None, None);
        assert_eq!(dev.data, Path::new("site/.countersign"));
        assert_eq!(
            dev.socket,
            Path::new("site/.countersign/run/admin/admin.sock")
        );
        let given = Places::new(Environment::Dev, None, Some(Path::new("/d")), None);
        assert_eq!(given.socket, Path::new("/d/run/admin/admin.sock"));
    }

    #[test]
    fn a_command_finds_the_server_of_its_project_first() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("countersign.yaml");
        assert_eq!(
            admin_socket(Some(&file), None, None),
            Path::new(SYSTEM_SOCKET)
        );
        let local = folder.path().join(".countersign/run/admin/admin.sock");
        std::fs::create_dir_all(local.parent().unwrap()).unwrap();
        std::fs::write(&local, "").unwrap();
        assert_eq!(admin_socket(Some(&file), None, None), local);
        assert_eq!(
            admin_socket(None, None, Some(Path::new("/s"))),
            Path::new("/s")
        );
    }
}
