//! Bad input, on a server of its own.

use dpat_core::{Class, Classify, TokioTime};
use dpat_queue::{
    Capability, Message, Outcome, ReceiveError, Requirements, SendError, SettleError, Survives,
};
use dpat_redis::{Config, Durability, OpenError, QueueSettings, QueueStore};
use dpat_testkit::live::Live;
use dpat_testkit::servers::Server;
use libtest_mimic::{Failed, Trial};

use crate::kit::{self, Admin, run};

fn open(config: &Config) -> Result<QueueStore, OpenError> {
    run(QueueStore::open(config, QueueSettings::DEFAULT, TokioTime))
}

fn with_login(server: &Server, login: &str) -> Config {
    let url = format!("redis://{login}127.0.0.1:{}/", server.port());
    Config::new(&url, "a").unwrap()
}

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    vec![
        live.faults(
            "a_refused_login_names_the_setting_and_no_password",
            a_refused_login_names_the_setting_and_no_password,
        ),
        live.faults(
            "a_missing_permission_is_named",
            a_missing_permission_is_named,
        ),
        live.faults(
            "a_user_who_may_not_see_the_settings_gets_no_promise",
            a_user_who_may_not_see_the_settings_gets_no_promise,
        ),
        live.faults(
            "a_server_that_evicts_is_refused",
            a_server_that_evicts_is_refused,
        ),
        live.faults(
            "durability_is_what_the_server_says",
            durability_is_what_the_server_says,
        ),
        live.trial(
            "a_key_of_somebody_else_is_refused",
            a_key_of_somebody_else_is_refused,
        ),
        live.trial("a_newer_schema_is_refused", a_newer_schema_is_refused),
        live.trial(
            "what_does_not_decode_is_a_typed_error",
            what_does_not_decode_is_a_typed_error,
        ),
        live.trial(
            "an_emptied_server_is_a_new_queue",
            an_emptied_server_is_a_new_queue,
        ),
    ]
}

fn a_refused_login_names_the_setting_and_no_password(server: Server) -> Result<(), Failed> {
    let admin = Admin::new(&server.url());
    admin.run(&["CONFIG", "SET", "requirepass", "right-secret"]);
    for login in ["", ":wrong-secret@", "nobody:wrong-secret@"] {
        let error = open(&with_login(&server, login)).unwrap_err();
        assert_eq!(error.class(), Class::Permanent, "{error}");
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("`url`"), "{shown}");
        assert!(!shown.contains("secret"), "{shown}");
    }
    open(&with_login(&server, ":right-secret@"))?;
    Ok(())
}

fn a_missing_permission_is_named(server: Server) -> Result<(), Failed> {
    let admin = Admin::new(&server.url());
    for (rule, command) in [
        ("-eval", "eval"),
        ("-evalsha", "eval"),
        ("-xadd", "xadd"),
        ("-publish", "publish"),
        ("resetchannels", "publish"),
    ] {
        let mut set = vec![
            "ACL", "SETUSER", "limited", "reset", "on", ">secret", "~*", "&*", "+@all",
        ];
        set.push(rule);
        admin.run(&set);
        let opened = open(&with_login(&server, "limited:secret@"));
        // By its digest a script runs once it is known; by its text the first time.
        let Err(OpenError::Forbidden { command: named, .. }) = &opened else {
            return Err(format!("{rule}: {opened:?}").into());
        };
        assert!(named.contains(command), "{rule}: {named}");
        let shown = opened.unwrap_err().to_string();
        assert!(
            shown.contains("ACL SETUSER") && !shown.contains("secret"),
            "{shown}"
        );
    }
    let keys = [
        "ACL", "SETUSER", "limited", "reset", "on", ">secret", "~other*", "&*", "+@all",
    ];
    admin.run(&keys);
    let error = open(&with_login(&server, "limited:secret@")).unwrap_err();
    assert_eq!(error.class(), Class::Permanent, "{error}");
    // What the guide lists is enough.
    let mut set = vec![
        "ACL",
        "SETUSER",
        "limited",
        "reset",
        "on",
        ">secret",
        "~dpat:{a}:*",
        "&dpat:{a}:*",
    ];
    set.extend(GRANTS);
    admin.run(&set);
    let store = open(&with_login(&server, "limited:secret@"))?;
    let queue = store.queue();
    run(async {
        queue.send(Message::new("m").key("k").dedup("d")).await?;
        let delivery = queue.receive().await?;
        queue.settle(delivery.receipt, Outcome::Done).await?;
        queue.stats().await?;
        Ok::<_, Box<dyn std::error::Error>>(())
    })?;
    Ok(())
}

/// What the guide lists.
const GRANTS: [&str; 28] = [
    "+info",
    "+config|get",
    "+evalsha",
    "+eval",
    "+subscribe",
    "+publish",
    "+type",
    "+time",
    "+hget",
    "+hset",
    "+hdel",
    "+hmget",
    "+xgroup",
    "+xinfo",
    "+xadd",
    "+xdel",
    "+xlen",
    "+xrange",
    "+xack",
    "+xclaim",
    "+xpending",
    "+zadd",
    "+zrem",
    "+zcard",
    "+zscore",
    "+zrank",
    "+zrange",
    "+zrangebylex",
];

fn a_user_who_may_not_see_the_settings_gets_no_promise(server: Server) -> Result<(), Failed> {
    let admin = Admin::new(&server.url());
    let mut set = vec![
        "ACL", "SETUSER", "limited", "reset", "on", ">secret", "~*", "&*", "+@all",
    ];
    set.extend(["-config", "-info"]);
    admin.run(&set);
    let config = with_login(&server, "limited:secret@");
    let store = open(&config)?;
    assert_eq!(store.server().durability, Durability::Memory);
    assert_eq!(store.server().version, None);
    let needs = Requirements::new().survives(Survives::ProcessKill);
    let unmet = store.queue().require(&needs).unwrap_err();
    assert!(
        unmet.to_string().contains("survives a killed process"),
        "{unmet}"
    );
    let stated = open(&config.durability(Durability::ProcessKill))?;
    stated.queue().require(&needs)?;
    Ok(())
}

fn a_server_that_evicts_is_refused(server: Server) -> Result<(), Failed> {
    let admin = Admin::new(&server.url());
    admin.run(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    open(&with_login(&server, ""))?;
    admin.run(&["CONFIG", "SET", "maxmemory", "1gb"]);
    let error = open(&with_login(&server, "")).unwrap_err();
    assert!(
        matches!(&error, OpenError::Evicts { policy, .. } if policy == "allkeys-lru"),
        "{error}"
    );
    admin.run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    open(&with_login(&server, ""))?;
    Ok(())
}

fn durability_is_what_the_server_says(server: Server) -> Result<(), Failed> {
    let admin = Admin::new(&server.url());
    let survives = || -> Result<Survives, Failed> {
        Ok(open(&with_login(&server, ""))?
            .queue()
            .capabilities()
            .survives)
    };
    assert_eq!(survives()?, Survives::PowerLoss);
    for (setting, value, expected) in [
        ("no-appendfsync-on-rewrite", "yes", Survives::ProcessKill),
        ("appendfsync", "no", Survives::ProcessKill),
        ("appendfsync", "everysec", Survives::Nothing),
        ("appendonly", "no", Survives::Nothing),
    ] {
        admin.run(&["CONFIG", "SET", setting, value]);
        assert_eq!(survives()?, expected, "{setting} {value}");
    }
    let lacks = open(&with_login(&server, ""))?.queue();
    let needs = Requirements::new().needs(Capability::TransactionalSend);
    assert!(lacks.require(&needs).is_err());
    Ok(())
}

fn a_key_of_somebody_else_is_refused(url: &str) -> Result<(), Failed> {
    let name = kit::name();
    let key = format!("dpat:{{{name}}}:queue:log");
    Admin::new(url).run(&["SET", &key, "theirs"]);
    let error = open(&Config::new(url, name)?).unwrap_err();
    assert_eq!(error.class(), Class::InvalidInput);
    let expected =
        format!("{key}: a string of somebody else is there: choose another `name` or `prefix`");
    assert_eq!(error.to_string(), expected);
    Ok(())
}

fn a_newer_schema_is_refused(url: &str) -> Result<(), Failed> {
    let name = kit::name();
    let config = Config::new(url, name.as_str())?;
    open(&config)?;
    let key = format!("dpat:{{{name}}}:queue:meta");
    Admin::new(url).run(&["HSET", &key, "schema", "1"]);
    let error = open(&config).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::NewerSchema {
                found: 1,
                supported: 0,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("update the crate"), "{error}");
    Ok(())
}

fn what_does_not_decode_is_a_typed_error(url: &str) -> Result<(), Failed> {
    let admin = Admin::new(url);
    for (part, value) in [
        ("facts", None),
        ("bodies", None),
        ("bodies", Some("\u{1}of another version")),
    ] {
        let name = kit::name();
        let store = open(&Config::new(url, name.as_str())?)?;
        let queue = store.queue();
        let sent = run(queue.send(Message::new("m")))?;
        let (key, id) = (format!("dpat:{{{name}}}:queue:{part}"), sent.id.to_string());
        match value {
            None => admin.run(&["HDEL", &key, &id]),
            Some(value) => admin.run(&["HSET", &key, &id, value]),
        };
        let received = run(queue.receive_batch(1, std::time::Duration::ZERO));
        let Err(ReceiveError::Backend(error)) = received else {
            return Err(format!("{part}: {received:?}").into());
        };
        assert_eq!(error.class(), Class::Corrupt, "{error}");
        assert!(
            error.to_string().contains(&format!("message {id}")),
            "{error}"
        );
    }
    Ok(())
}

fn an_emptied_server_is_a_new_queue(url: &str) -> Result<(), Failed> {
    let name = kit::name();
    let store = open(&Config::new(url, name.as_str())?)?;
    let queue = store.queue();
    let zero = std::time::Duration::ZERO;
    run(queue.send(Message::new("gone")))?;
    let gone = run(queue.receive())?;
    let keys = dpat_redis_keys(&name);
    let mut delete = vec!["DEL"];
    delete.extend(keys.iter().map(String::as_str));
    Admin::new(url).run(&delete);
    assert!(run(queue.receive_batch(1, zero))?.is_empty());
    let sent = run(queue.send(Message::new("new")))?;
    assert!(sent.id > gone.id(), "an id is given once");
    let late = run(queue.settle(gone.receipt, Outcome::Done));
    assert!(matches!(late, Err(SettleError::Stale)), "{late:?}");
    assert_eq!(run(queue.receive())?.payload(), "new");
    let refused: Result<_, SendError> = run(queue.send(Message::new(vec![0; (1 << 20) + 1])));
    assert!(matches!(refused, Err(SendError::Invalid(_))), "{refused:?}");
    Ok(())
}

fn dpat_redis_keys(name: &str) -> Vec<String> {
    let parts = [
        "meta", "log", "facts", "bodies", "ready", "delayed", "leases", "ends", "lanes", "dead",
        "dedups", "windows",
    ];
    parts
        .iter()
        .map(|part| format!("dpat:{{{name}}}:queue:{part}"))
        .collect()
}
