//! What the command says of the mesh, and that it takes it out.

use serde_json::Value;

use super::Run;
use crate::mesh::NAMESPACE;

impl Run {
    /// `check`, `proxy-status`, `config`: through the API server's port-forward.
    pub(super) fn looked_into(&mut self) -> anyhow::Result<()> {
        let checks = self.json(&["check", "-o", "json"])?;
        let all = checks.as_array().cloned().unwrap_or_default();
        let bad: Vec<String> = all.iter().filter(|check| check["level"] != "good").map(Value::to_string).collect();
        let seen = if bad.is_empty() { format!("{} of {} are good", all.len(), all.len()) } else { bad.join(", ") };
        self.row("ferromesh check finds nothing", bad.is_empty() && all.len() > 8, seen);

        // Four pods of demo, and the gateway that the file asked for; changes may be on their way.
        let table = self.mesh.until(|| {
            let table = self.mesh.ferromesh_output(&["proxy-status"])?;
            Ok((synced(&table) == 5).then_some(table))
        })?;
        let table = match table {
            Some(table) => table,
            None => self.mesh.ferromesh_output(&["proxy-status", "-o", "wide"])?,
        };
        let lines = table.lines().count().saturating_sub(1);
        let seen = format!("{} of {lines} proxies have all that was sent", synced(&table));
        self.row("ferromesh proxy-status shows every proxy in sync", synced(&table) == 5 && lines == 5, seen);

        let routes = self.mesh.ferromesh_output(&["config", "istio-gwapi", "routes", "-n", "demo"])?;
        let seen: Vec<&str> = routes.lines().filter(|line| line.contains("outbound|80||")).map(str::trim).collect();
        let good = ["80 outbound|80||myapp-v1", "20 outbound|80||myapp-v2", "outbound|80||otherapp"];
        let holds = good.iter().all(|part| routes.contains(part));
        let seen: Vec<String> = seen.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        self.row("ferromesh config shows the Gateway's routes with their weights", holds, seen.join("; "));

        let secrets = self.json(&["config", "myapp-v1", "secrets", "-n", "demo", "-o", "json"])?.to_string();
        let identity = "spiffe://cluster.local/ns/demo/sa/default";
        let holds = secrets.contains(identity) && !secrets.contains("PRIVATE");
        self.row("and a pod's identity, without its key", holds, if holds { identity } else { &secrets });
        Ok(())
    }

    /// `uninstall --purge`: nothing of it is left but the namespaces.
    pub(super) fn uninstalled(&mut self) -> anyhow::Result<()> {
        self.mesh.kubectl(&["delete", "namespace", "demo"])?;
        self.mesh.ferromesh_output(&["uninstall", "--purge"])?;
        let labelled = ["-l", "app.kubernetes.io/part-of=ferromesh", "-o", "name"];
        let kinds = "deployments,services,serviceaccounts,configmaps,secrets,networkpolicies,clusterroles,clusterrolebindings,\
            mutatingwebhookconfigurations,validatingwebhookconfigurations,customresourcedefinitions,priorityclasses";
        let left = self.mesh.until(|| {
            let left = self.mesh.kubectl(&[&["get", "-A", kinds], labelled.as_slice()].concat())?;
            let pods = self.mesh.kubectl(&["get", "pods,secrets,leases", "-n", NAMESPACE, "-o", "name"])?;
            Ok((left.trim().is_empty() && pods.trim().is_empty()).then_some(()))
        })?;
        let seen = match left {
            Some(()) => "nothing".to_owned(),
            None => {
                let left = self.mesh.kubectl(&[&["get", "-A", kinds], labelled.as_slice()].concat())?;
                let pods = self.mesh.kubectl(&["get", "pods,secrets,leases", "-n", NAMESPACE, "-o", "name"])?;
                format!("{left} {pods}").split_whitespace().collect::<Vec<_>>().join(" ")
            }
        };
        self.row("ferromesh uninstall --purge leaves nothing", left.is_some(), seen);
        Ok(())
    }

    fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        // Only what is printed, and whatever the exit code: what is wrong stands in it.
        let out = self.mesh.ferromesh()?.args(arguments).output()?;
        let said = || anyhow::anyhow!("ferromesh {}: {}", arguments.join(" "), String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).map_err(|_| said())
    }
}

/// Rows whose four types are all in sync; a proxy without endpoints of its own asks for none.
fn synced(table: &str) -> usize {
    let bad = ["SENT", "REJECTED"];
    table.lines().skip(1).filter(|line| line.contains("SYNCED") && bad.iter().all(|word| !line.contains(word))).count()
}
