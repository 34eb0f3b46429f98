//! What seals credentials stands in a Vault: a real OpenBao, in TLS.

use std::{
    fs,
    time::{Duration, Instant},
};

use tests::{Certificates, Lab, Method, OpenBao, Postgres, Rules, Running, eventually};

/// A shop whose PostgreSQL wants a password that only the gateway has, and an OpenBao. No gateway runs yet.
struct World {
    // In the order in which they go.
    bao: OpenBao,
    pg: Postgres,
    certificates: Certificates,
    lab: Lab,
}

impl World {
    fn new(name: &str) -> Self {
        let lab = Lab::new(name);
        let certificates = Certificates::make(&lab);
        let pg = Postgres::start_with_tls(&lab, &certificates);
        let bao = OpenBao::start(&lab, &certificates);
        let lines = format!("tls: {{ ca: {} }}\ncredential: shop/app", certificates.path("ca.crt"));
        let rules = Rules::allowing().resource_line(&lines);
        lab.policies(&rules.resource(pg.port()), &rules.policies());
        Self { bao, pg, certificates, lab }
    }

    /// The settings of `credentials_key:`, with one of the lab's authorities.
    fn settings(&self, ca: &str, key: &str, auth: &str) -> String {
        let ca = self.certificates.path(ca);
        format!("{{ vault: '{}', {key}, auth: {{ {auth} }}, ca: {ca} }}", self.bao.address())
    }

    /// Writes a secret where settings can name it.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.lab.path(name);
        fs::write(&path, text).expect("the lab's directory is ours");
        path.display().to_string()
    }

    /// A token in a file, and what settings say of it.
    fn token(&self) -> (String, String) {
        let token = self.bao.token();
        let auth = format!("token: {}", self.file("token", &token));
        (token, auth)
    }

    fn set(&self) {
        let method = Method::Scram;
        self.lab.credential("set", "shop/app", &["--user", method.role()], method.password()).ok();
    }

    /// A bot logs in, with nothing of its own.
    fn log_in(&self) -> tests::Outcome {
        self.lab.bot("ci").psql(&self.url(), "SELECT current_user")
    }

    fn url(&self) -> String {
        format!("postgresql://bot@127.0.0.1:{}/shop", self.pg.port())
    }

    fn restart(&self) {
        self.lab.stop().ok();
        self.lab.start();
    }

    /// What stands in a sealed file in the key's place, in clear.
    fn sealed(&self, name: &str) -> String {
        let text = fs::read_to_string(self.lab.path("state/credentials").join(name)).expect("it was set");
        let sealed: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        sealed["key"].as_str().expect("it has one").to_owned()
    }

    /// No secret anywhere that a person or a program could read it.
    #[track_caller]
    fn assert_kept(&self, said: &[String], secrets: &[&str]) {
        let (record, log) = (self.lab.record(), self.lab.gateway_log());
        assert!(log.contains("DEBUG"), "the log is talkative");
        for secret in secrets.iter().copied().chain(self.bao.secrets()).chain([Method::Scram.password()]) {
            assert!(secret.len() > 8, "no secret: {secret}");
            assert!(!record.contains(secret), "{secret} is in the record");
            assert!(!log.contains(secret), "{secret} is in the log");
            assert!(!said.iter().any(|said| said.contains(secret)), "{secret} was printed");
            for part in ["state", "run"] {
                let place = self.lab.path(part).display().to_string();
                assert_eq!(self.lab.run(&["grep", "-rla", secret, &place]).stdout, "", "{secret} is on disk in clear");
            }
        }
    }
}

/// `vault:v1:` and `vault:v2:` in base64.
const V1: &str = "dmF1bHQ6djE6";
const V2: &str = "dmF1bHQ6djI6";

#[test]
fn transit_seals_and_its_key_can_be_rotated() {
    let world = World::new("keys-transit");
    let (role_id, secret_id) = world.bao.app_role("20m");
    let secret_file = world.file("secret-id", &secret_id);
    let auth = format!("app_role: {{ role_id: {role_id}, secret_id: {secret_file} }}");
    world.lab.log_at("trace");
    world.lab.set("credentials_key", &world.settings("ca.crt", "transit: { key: hp }", &auth));
    world.lab.start();
    world.set();
    let mut said = vec![world.log_in().ok().says(&["app_scram"]).all()];
    assert!(world.sealed("shop+app.sealed").starts_with(V1), "{}", world.sealed("shop+app.sealed"));
    assert!(!world.lab.path("state/credentials.key").exists(), "no key of its own was made");

    // What the last login gave is taken away: another login follows, and nobody notices.
    let logins = |world: &World| world.bao.audit().matches("\"path\":\"auth/approle/login\"").count();
    let before = logins(&world);
    world.log_in().ok();
    assert_eq!(logins(&world), before, "a token is used again");
    world.bao.run(&["token", "revoke", "-mode=path", "auth/approle"]);
    world.log_in().ok();
    assert!(logins(&world) > before, "it logged in anew");

    // The key is rotated: what is sealed stays open, is sealed anew, and then outlives the key's first version.
    world.bao.run(&["write", "-f", "transit/keys/hp/rotate"]);
    world.log_in().ok();
    said.push(world.lab.holdpoint(&["credentials", "reseal"]).ok().says(&["1 credentials", "transit/hp"]).all());
    assert!(world.sealed("shop+app.sealed").starts_with(V2), "{}", world.sealed("shop+app.sealed"));
    world.bao.run(&["write", "transit/keys/hp/config", "min_decryption_version=2"]);
    world.log_in().ok();
    assert!(world.lab.record().contains("credentials were sealed anew"), "it is on record");

    // What is sealed is bound to its name: under another one the Vault itself does not open it.
    world.lab.credential("set", "shop/other", &[], "canary-of-another").ok();
    world.lab.stop().ok();
    let path = |name: &str| world.lab.path("state/credentials").join(name);
    let other = fs::read_to_string(path("shop+other.sealed")).expect("it was set");
    fs::write(path("shop+app.sealed"), other.replace("shop/other", "shop/app")).expect("the lab's directory is ours");
    world.lab.start();
    said.push(world.log_in().failed().says(&["sealed with the transit key", "message authentication failed"]).all());

    for page in ["status", "status -o json", "doctor", "credentials list", "sessions list -o json"] {
        said.push(world.lab.holdpoint(&page.split(' ').collect::<Vec<_>>()).all());
    }
    assert!(said[said.len() - 5].contains("sealed with the transit key transit/hp"), "{said:?}");
    assert!(said[said.len() - 5].contains("it answers"), "{said:?}");
    world.assert_kept(&said, &[&secret_id, "canary-of-another"]);
}

#[test]
fn tokens_are_renewed_while_they_are_good() {
    let world = World::new("keys-renewed");
    let (role_id, secret_id) = world.bao.app_role("4s");
    let secret_file = world.file("secret-id", &secret_id);
    let auth = format!("app_role: {{ role_id: {role_id}, secret_id: {secret_file} }}");
    world.lab.set("credentials_key", &world.settings("ca.crt", "transit: { key: hp }", &auth));
    world.lab.start();
    world.set();
    eventually("the token is renewed", Duration::from_secs(20), || {
        world.log_in().ok();
        world.bao.audit().contains("\"path\":\"auth/token/renew-self\"").then_some(())
    });
    // Past its time there is another login; without the file there is none.
    let logins = || world.bao.audit().matches("\"path\":\"auth/approle/login\"").count();
    let before = logins();
    eventually("the gateway logs in anew", Duration::from_secs(30), || {
        world.log_in().ok();
        (logins() > before).then_some(())
    });
    fs::remove_file(&secret_file).expect("it was written");
    world.bao.run(&["token", "revoke", "-mode=path", "auth/approle"]);
    world.log_in().failed().says(&["secret id", "cannot be read", &secret_file]);
}

#[test]
fn a_key_in_a_secret_is_read_each_time_and_never_kept() {
    let world = World::new("keys-kv");
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    world.bao.run(&["kv", "put", "-mount=secret", "holdpoint/key", &format!("key={key}")]);
    let (token, auth) = world.token();
    world.lab.log_at("trace");
    world.lab.set("credentials_key", &world.settings("ca.crt", "kv: { path: holdpoint/key }", &auth));
    world.lab.start();
    world.set();
    let mut said = vec![world.log_in().ok().says(&["app_scram"]).all()];
    // An agent exchanges the token: the next login uses it.
    world.bao.run(&["token", "revoke", &token]);
    said.push(world.log_in().failed().says(&["sealed with the key in secret/holdpoint/key", "does not let"]).all());
    let renewed = world.bao.token();
    world.file("token", &renewed);
    said.push(world.log_in().ok().all());
    // Another version of the secret opens nothing, until the settings say which one it was.
    world.bao.run(&["kv", "put", "-mount=secret", "holdpoint/key", &format!("key={}", key.replace("AAE", "AAA"))]);
    said.push(world.log_in().failed().says(&["does not open them"]).all());
    let first = world.settings("ca.crt", "kv: { path: holdpoint/key, version: 1 }", &auth);
    let newest = world.settings("ca.crt", "kv: { path: holdpoint/key }", &auth);
    world.lab.set("credentials_key", &newest);
    world.lab.set("credentials_key_before", &first);
    world.restart();
    world.log_in().ok();
    said.push(world.lab.holdpoint(&["credentials", "reseal"]).ok().all());
    world.lab.set("credentials_key_before", "null");
    world.restart();
    world.log_in().ok();
    // What is no key is none.
    world.bao.run(&["kv", "put", "-mount=secret", "holdpoint/key", "other=short"]);
    for (field, word) in [("other", "must be 32 bytes in base64"), ("none", "no field")] {
        let key = format!("kv: {{ path: holdpoint/key, field: {field} }}");
        world.lab.set("credentials_key", &world.settings("ca.crt", &key, &auth));
        world.restart();
        said.push(world.log_in().failed().says(&[word]).all());
    }
    world.assert_kept(&said, &[key, &token, &renewed]);
    let raw = (0..32).map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    let state = world.lab.path("state").display().to_string();
    assert_eq!(world.lab.run(&["grep", "-rlaP", &raw, &state]).stdout, "", "the key's own bytes are on disk");
}

/// The same words as Kubernetes' own method, from a method that needs no cluster to ask.
#[test]
fn a_service_account_logs_in_with_its_token() {
    let world = World::new("keys-account");
    let key = world.lab.path("jwt.key").display().to_string();
    let made = world.lab.run(&["/usr/bin/python3", "-c", SIGN, &key]).ok();
    let (public, tokens) = made.stdout.split_once("\n\n").expect("a key and tokens");
    let tokens: Vec<_> = tokens.split_whitespace().collect();
    world.bao.run(&["auth", "enable", "-path=cluster", "jwt"]);
    world.bao.run(&["write", "auth/cluster/config", &format!("jwt_validation_pubkeys={public}")]);
    let role = ["role_type=jwt", "user_claim=sub", "bound_audiences=vault", "policies=hp"];
    world.bao.run(&[&["write", "auth/cluster/role/hp"][..], &role].concat());
    let file = world.file("jwt", tokens[0]);
    let auth = format!("kubernetes: {{ role: hp, jwt: {file}, mount: cluster }}");
    world.lab.log_at("trace");
    world.lab.set("credentials_key", &world.settings("ca.crt", "transit: { key: hp }", &auth));
    world.lab.start();
    world.set();
    world.log_in().ok();
    // Another's signature.
    world.file("jwt", tokens[1]);
    world.bao.run(&["token", "revoke", "-mode=path", "auth/cluster"]);
    let said = world.log_in().failed().says(&["cannot log in there"]).all();
    world.assert_kept(&[said], &[tokens[0], tokens[1]]);
}

/// Prints a public key, and two tokens: one signed with its private key, one with another.
const SIGN: &str = r#"
import base64, json, subprocess, sys, time
def made(path):
    subprocess.run(["openssl", "genrsa", "-out", path, "2048"], check=True, capture_output=True)
    return subprocess.run(["openssl", "rsa", "-in", path, "-pubout"], check=True, capture_output=True, text=True).stdout
def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")
def token(path):
    claims = {"sub": "holdpoint", "aud": "vault", "iat": int(time.time()), "exp": int(time.time()) + 3600}
    text = b64(b'{"alg":"RS256","typ":"JWT"}') + b"." + b64(json.dumps(claims).encode())
    sign = ["openssl", "dgst", "-sha256", "-sign", path]
    return (text + b"." + b64(subprocess.run(sign, input=text, check=True, capture_output=True).stdout)).decode()
own, other = sys.argv[1], sys.argv[1] + ".other"
public = made(own).strip(); made(other)
print(public + "\n\n" + token(own) + "\n" + token(other))
"#;

#[test]
fn nobody_else_is_taken_for_the_vault() {
    let world = World::new("keys-tls");
    let (token, auth) = world.token();
    let key = "transit: { key: hp }";
    let right = world.settings("ca.crt", key, &auth);
    let asked = |world: &World| world.bao.audit().matches("transit/encrypt/hp").count();
    let wrong = [
        (world.settings("other.crt", key, &auth), "nobody who signed it is trusted"),
        (right.replace(", ca:", ", server_name: vault.example, ca:"), "it is not for \"vault.example\""),
        // The machine's own authorities do not know it either.
        (right.split(", ca:").next().expect("it has one").to_owned() + " }", "nobody who signed it is trusted"),
    ];
    for (settings, word) in wrong {
        world.lab.set("credentials_key", &settings);
        world.lab.start();
        let refused = world.lab.credential("set", "shop/app", &[], "canary-of-nobody").failed();
        let refused = refused.says(&["its certificate is refused", word]);
        assert!(!refused.all().contains(&token) && !refused.all().contains("canary"), "{refused}");
        world.lab.holdpoint(&["status"]).says(&["CANNOT BE USED: its certificate is refused"]);
        world.lab.holdpoint(&["doctor"]).failed().says(&["FAIL  credentials: sealed with the transit key", word]);
        world.lab.stop().ok();
    }
    assert_eq!(asked(&world), 0, "none of them was asked to seal");
    let clear = right.replace("https://localhost", "http://vault.example");
    world.lab.set("credentials_key", &clear);
    world.lab.start_failing().says(&["credentials_key", "in clear"]);
    world.lab.set("credentials_key", &right);
    world.lab.start();
    world.set();
    world.log_in().ok();
    assert!(asked(&world) > 0, "the control");
    // A token that may seal and not open seals nothing anew.
    world.bao.policy("path \"transit/encrypt/hp\" { capabilities = [\"update\"] }");
    world.lab.holdpoint(&["credentials", "reseal"]).failed().says(&["0 of 1", "does not let the gateway"]);
}

#[test]
fn a_vault_that_is_away_refuses_logins_and_nothing_else() {
    let mut world = World::new("keys-away");
    let (_, auth) = world.token();
    world.lab.set("credentials_key", &world.settings("ca.crt", "transit: { key: hp }", &auth));
    world.lab.start();
    world.set();
    let mut open = world.lab.bot("ci").start_script(&world.url());
    open.write("SELECT 'before';\n");
    eventually("it is logged in", Duration::from_secs(10), || (world.pg.ran("'before'") == 1).then_some(()));

    world.bao.seal();
    world.log_in().failed().says(&["credentials are sealed with", "it is sealed"]);
    world.bao.unseal();
    world.log_in().ok();

    // It takes connections and says nothing: a login waits a bounded time, and nobody waits with it.
    world.bao.freeze();
    let url = world.url();
    let began = Instant::now();
    std::thread::scope(|scope| {
        let waiting: Vec<_> =
            (0..8).map(|_| scope.spawn(|| world.lab.bot("ci").psql(&url, "SELECT 1").failed())).collect();
        for round in 0..20 {
            let asked = Instant::now();
            open.write(&format!("SELECT 'meanwhile-{round}';\n"));
            let marker = format!("'meanwhile-{round}'");
            eventually("others go on", Duration::from_secs(2), || (world.pg.ran(&marker) == 1).then_some(()));
            assert!(asked.elapsed() < Duration::from_secs(2), "an open connection waits for the Vault");
        }
        for login in waiting {
            login.join().expect("a refusal").says(&["did not answer within 5s"]);
        }
    });
    let took = began.elapsed();
    assert!(took > Duration::from_secs(4) && took < Duration::from_secs(20), "{took:?}");
    world.bao.thaw();
    eventually("it serves again", Duration::from_secs(20), || world.log_in().status.success().then_some(()));

    // It is gone, and the gateway starts without it: what needs no credential is served.
    world.bao.kill();
    world.log_in().failed().says(&["it cannot be reached", "refused"]);
    open.write("SELECT 'after';\n");
    open.finish(Duration::from_secs(10)).ok().says(&["before", "meanwhile-19", "after"]);
    world.restart();
    assert!(world.lab.gateway_log().contains("credentials are sealed with the transit key"), "it says so at once");
    world.lab.holdpoint(&["status"]).ok().says(&["CANNOT BE USED: it cannot be reached"]);
    world.lab.holdpoint(&["doctor"]).failed().says(&["FAIL  credentials: sealed with the transit key"]);
    world.log_in().failed().says(&["it cannot be reached"]);
    world.bao.restart();
    world.log_in().ok().says(&["app_scram"]);
    eventually("status says so", Duration::from_secs(10), || {
        world.lab.holdpoint(&["status"]).all().contains("it answers").then_some(())
    });
}

#[test]
fn credentials_move_from_a_file_to_a_vault_even_if_the_gateway_dies_half_way() {
    let world = World::new("keys-move");
    world.lab.start();
    world.set();
    let others = 40;
    for number in 0..others {
        world.lab.credential("set", &format!("other/n{number}"), &[], "canary-of-another").ok();
    }
    let (token, auth) = world.token();
    let own = world.lab.path("state/credentials.key").display().to_string();
    world.lab.set("credentials_key", &world.settings("ca.crt", "transit: { key: hp }", &auth));
    // Without the key before, nothing opens: a mistake that costs nothing.
    world.restart();
    world.log_in().failed().says(&["no transit key has sealed this"]);
    world.lab.set("credentials_key_before", &own);
    world.restart();
    world.log_in().ok();
    world.lab.holdpoint(&["doctor"]).says(&["warn  credentials", "credentials reseal"]);

    let moved = || {
        let files = fs::read_dir(world.lab.path("state/credentials")).expect("it is there");
        let names = files.map(|file| file.expect("it is there").file_name().into_string().expect("ours"));
        names.filter(|name| name.ends_with(".sealed") && world.sealed(name).starts_with(V1)).count()
    };
    let resealing = Running::start(&mut world.lab.command(&[&world.lab.tool("holdpoint"), "credentials", "reseal"]));
    eventually("it has begun", Duration::from_secs(10), || (moved() > 2).then_some(()));
    world.lab.kill();
    resealing.finish(Duration::from_secs(10)).failed();
    let done = moved();
    assert!(done > 2 && done <= others, "half way: {done}");
    world.lab.start();
    world.log_in().ok();
    world.lab.holdpoint(&["credentials", "reseal"]).ok().says(&["41 credentials", "transit/hp"]);
    assert_eq!(moved(), others + 1);

    // The old key is nobody's any more.
    world.lab.stop().ok();
    fs::remove_file(&own).expect("it was the key");
    world.lab.set("credentials_key_before", "null");
    world.lab.start();
    world.log_in().ok().says(&["app_scram"]);
    world.lab.holdpoint(&["status"]).ok().says(&["credentials: 41, sealed with the transit key"]);
    assert!(!world.lab.gateway_log().contains(&token), "the token is in the log");
}
