//! What must be seen of the traffic.

use std::time::Instant;

use anyhow::Context;

use super::{Manifests, Run};

/// Requests of the canary check: v1 has 80 % of them within four standard deviations.
const REQUESTS: u32 = 400;
const STRICT: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default}\nspec: {mtls: {mode: STRICT}}\n";

impl Run {
    pub(super) fn canary(&mut self) -> anyhow::Result<()> {
        let url = self.url()?;
        let bodies = self.mesh.curl(&[&format!("{url}/?n=[1-{REQUESTS}]")])?;
        let (v1, v2) = (bodies.matches("myapp v1").count(), bodies.matches("myapp v2").count());
        let n = f64::from(REQUESTS);
        let (expected, deviation) = (n * 0.8, (n * 0.8 * 0.2).sqrt());
        let first = f64::from(u32::try_from(v1).unwrap_or(u32::MAX));
        let good = v1 + v2 == REQUESTS as usize && (first - expected).abs() <= 4.0 * deviation;
        self.row("four of five requests go to v1", good, format!("v1 {v1}, v2 {v2} of {REQUESTS}"));
        let head = self.mesh.curl(&["-i", &url])?.to_ascii_lowercase();
        let good = head.contains("x-mesh: istio")
            && head.contains("x-canary: v2-20pct")
            && head.contains("server: istio-envoy");
        let seen: Vec<&str> =
            head.lines().filter(|line| line.starts_with("x-") || line.starts_with("server")).collect();
        self.row("answers carry the mesh's headers", good, seen.join(", "));
        let body = self.mesh.curl(&[&format!("{url}/other")])?;
        self.row("/other goes to the second application", body.trim() == "otherapp", body.trim());
        Ok(())
    }

    /// The tutorial's own program, only its address changed.
    pub(super) fn script(&mut self, manifests: &Manifests) -> anyhow::Result<()> {
        let Some(script) = &manifests.script else { return Ok(()) };
        let line = script.lines().find(|line| line.starts_with("url = ")).context("check_canary.py has no url")?;
        let script = script.replace(line, &format!("url = {:?}", self.url()?));
        let out = self.mesh.cluster.exec(None, "python3")?.args(["-c", &script]).output().context("python3")?;
        let said = String::from_utf8_lossy(&out.stdout);
        let first = said.lines().next().unwrap_or_default().to_owned();
        let numbers: Vec<u32> = first.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
        let complete = numbers.len() == 2 && numbers.iter().sum::<u32>() == 100;
        let seen = if first.is_empty() { String::from_utf8_lossy(&out.stderr).trim().to_owned() } else { first };
        // 80 of 100, give or take four standard deviations of 4.
        let split = numbers.first().is_some_and(|v1| (64..=96).contains(v1));
        self.row("the tutorial's own check_canary.py", complete && split, seen);
        Ok(())
    }

    /// How many of a burst were let pass, were limited with the limit's header, and were something else.
    fn burst(&self, path: &str) -> anyhow::Result<(usize, usize, usize)> {
        let url = format!("{}{path}?n=[1-100]", self.url()?);
        let format = "%{http_code} %header{x-rate-limited}\\n";
        let lines = self.mesh.curl(&["-o", "/dev/null", "-w", format, &url])?;
        let passed = lines.lines().filter(|line| line.starts_with("200")).count();
        let limited = lines.lines().filter(|line| line.trim() == "429 TOO_MANY_REQUESTS").count();
        Ok((passed, limited, lines.lines().count() - passed - limited))
    }

    pub(super) fn limit_as_written(&mut self, manifests: &Manifests) -> anyhow::Result<()> {
        let warning = self.mesh.apply_in("istio-system", &manifests.limit)?;
        let line = warning.lines().find(|line| line.contains("FM0001")).unwrap_or("no warning").to_owned();
        self.row("the limit as written patches nothing, and kubectl says so", line.contains("patches nothing"), line);
        let path = "jsonpath={.status.conditions[?(@.type==\"PatchesMatched\")].status} {.status.conditions[?(@.type==\"PatchesMatched\")].message}";
        let status = self.mesh.until(|| {
            let status = self.mesh.kubectl(&[
                "get",
                "envoyfilter",
                "-n",
                "istio-system",
                "ingress-local-ratelimit",
                "-o",
                path,
            ])?;
            Ok((!status.trim().is_empty()).then_some(status))
        })?;
        let status = status.unwrap_or_default();
        self.row("its status says so", status.starts_with("False"), status);
        let (passed, limited, other) = self.burst("/")?;
        let seen = format!("{passed} of 100 pass, {limited} are limited, {other} else");
        self.row("it limits nothing", passed == 100, seen);
        Ok(())
    }

    pub(super) fn limit_that_applies(&mut self, manifests: &Manifests) -> anyhow::Result<()> {
        self.mesh.kubectl(&["delete", "envoyfilter", "-n", "istio-system", "ingress-local-ratelimit"])?;
        self.mesh.apply_in("demo", &manifests.limit_that_applies)?;
        let name =
            "jsonpath={.items[0].metadata.name} {.items[0].status.conditions[?(@.type==\"PatchesMatched\")].status}";
        self.mesh.until(|| {
            let status = self.mesh.kubectl(&["get", "envoyfilter", "-n", "demo", "-o", name])?;
            Ok(status.ends_with("True").then_some(()))
        })?;
        // The status is the controller's; that the proxies have it too is seen when one limits.
        let (begin, mut seen) = (Instant::now(), String::new());
        let limited = self.mesh.until(|| {
            let (_, limited, _) = self.burst("/other")?;
            Ok((limited > 0).then_some(()))
        })?;
        // Buckets refill at five a minute: the pods of / have not been asked since the filter came.
        let (passed, limited_too, other) = self.burst("/")?;
        if limited.is_some() {
            seen = format!(
                "{passed} pass, {limited_too} are limited, {other} else, after {:.1} s",
                begin.elapsed().as_secs_f64()
            );
        }
        let good = limited.is_some() && (10..=22).contains(&passed) && passed + limited_too == 100;
        self.row("with a selector that matches, each of two pods lets ten of a burst pass", good, seen);
        self.mesh.kubectl(&["delete", "envoyfilter", "-n", "demo", "--all"])?;
        Ok(())
    }

    pub(super) fn identity(&mut self) -> anyhow::Result<()> {
        let path = "jsonpath={.items[0].status.podIP}";
        let pod = self.mesh.kubectl(&["get", "pods", "-n", "demo", "-l", "app=otherapp", "-o", path])?;
        let url = format!("http://{pod}:5678/other");
        let code = |run: &Self| run.mesh.curl(&["-o", "/dev/null", "-w", "%{http_code}", &url]);
        let permissive = code(self)?;
        self.row("PERMISSIVE takes plaintext from outside the mesh", permissive == "200", permissive);
        self.mesh.apply_in("demo", STRICT)?;
        let strict = self.mesh.until(|| Ok(Some(code(self)?).filter(|code| code == "000")))?;
        let through = self.mesh.curl(&["-o", "/dev/null", "-w", "%{http_code}", &(self.url()? + "/other")])?;
        let seen =
            format!("without a certificate {}, through the gateway {through}", strict.as_deref().unwrap_or("200"));
        self.row("STRICT refuses it, and the gateway goes on", strict.is_some() && through == "200", seen);
        Ok(())
    }
}
