//! Help texts as they are; after a wanted change: `INSTA_UPDATE=always cargo test -p ferromesh-cli --test cli help`.

use super::{run, runtime};

#[test]
fn help_texts_say_what_they_said() {
    let commands = [
        "",
        "up",
        "demo",
        "analyze",
        "inject",
        "get",
        "config",
        "proxy-status",
        "check",
        "install",
        "upgrade",
        "uninstall",
        "version",
        "completion",
    ];
    for command in commands {
        let args: Vec<&str> = [command, "--help"].into_iter().filter(|arg| !arg.is_empty()).collect();
        let (code, stdout, _) = run(&runtime(), &args, "");
        assert_eq!(code, Some(0), "{command}");
        insta::assert_snapshot!(if command.is_empty() { "ferromesh" } else { command }, stdout);
    }
}

#[test]
fn every_command_but_version_shows_an_example() {
    let commands = [
        "up",
        "demo",
        "analyze",
        "inject",
        "get",
        "config",
        "proxy-status",
        "check",
        "install",
        "upgrade",
        "uninstall",
        "completion",
    ];
    for command in commands {
        let (_, stdout, _) = run(&runtime(), &[command, "--help"], "");
        assert!(stdout.contains(&format!("ferromesh {command}")) && stdout.contains("Example"), "{stdout}");
    }
}

#[test]
fn completion_scripts_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, stdout, _) = run(&runtime(), &["completion", shell], "");
        assert_eq!(code, Some(0), "{shell}");
        for command in ["demo", "analyze", "inject", "config"] {
            assert!(stdout.contains(command), "{shell}: {command}");
        }
    }
}

#[test]
fn the_version_is_the_packages() {
    let (code, stdout, _) = run(&runtime(), &["version", "-o", "json"], "");
    let value: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((code, value["ferromesh"].as_str()), (Some(0), Some(env!("CARGO_PKG_VERSION"))));
}
