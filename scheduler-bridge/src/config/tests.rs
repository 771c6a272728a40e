use super::parts::decode;
use super::*;

fn parsed(text: &str) -> PgConnectOptions {
    DatabaseConfig::parse(text).unwrap().options
}

fn url_of(options: &PgConnectOptions) -> String {
    use sqlx::ConnectOptions;
    options.to_url_lossy().to_string()
}

#[test]
fn every_driver_name_of_airflow_means_postgresql() {
    for scheme in SCHEMES {
        let config = DatabaseConfig::parse(&format!("{scheme}://airflow:secret@db:6432/airflow")).unwrap();
        assert_eq!(config.address(), "db:6432/airflow");
        assert_eq!(config.user(), "airflow");
        assert_eq!(config.to_string(), "postgresql://airflow@db:6432/airflow");
    }
}

#[test]
fn the_password_is_read_as_sqlalchemy_reads_it_and_never_shown() {
    for (text, password) in [
        ("postgresql://u:p%40ss%2Fw%3Ard@h/d", "p%40ss%2Fw%3Ard"),
        ("postgresql://u:p/a?s#s@h/d", "p%2Fa%3Fs%23s"),
        ("postgresql://u:a:b@h/d", "a%3Ab"),
        ("postgresql://u@h/d?password=q%26a", "q%26a"),
        ("postgresql://u:a+b@h/d", "a%2Bb"),
    ] {
        let config = DatabaseConfig::parse(text).unwrap();
        assert!(
            url_of(&config.options).contains(&format!("u:{password}@h")),
            "{text}: {}",
            url_of(&config.options)
        );
        let shown = format!("{config} {config:?} {}", config.address());
        let decoded = decode(password, "password").unwrap();
        assert!(
            !shown.contains(&format!(":{password}@")) && !shown.contains(&format!(":{decoded}@")),
            "{shown}"
        );
        assert_eq!(config.address(), "h:5432/d");
    }
}

#[test]
fn sockets_ipv6_and_options_of_libpq() {
    let socket = parsed("postgresql+psycopg2://airflow@/airflow?host=/run/postgresql&port=5433");
    assert_eq!(socket.get_socket().unwrap().to_str(), Some("/run/postgresql"));
    assert_eq!(socket.get_port(), 5433);
    assert_eq!(parsed("postgresql://u:p@[::1]:5433/d").get_host(), "::1");
    let tls = parsed("postgresql://u@h/d?sslmode=verify-full&sslrootcert=/etc/rds.pem&keepalives_idle=30");
    assert!(url_of(&tls).contains("sslmode=verify-full"));
    assert!(url_of(&tls).contains("rds.pem"));
    let require = parsed("postgresql://u@h/d?sslmode=require&sslrootcert=/etc/rds.pem");
    assert!(url_of(&require).contains("sslmode=verify-ca"), "as libpq does");
    assert!(url_of(&parsed("postgresql://u@h/d")).contains("sslmode=prefer"));
    let own = parsed("postgresql://u@h/d?options=-csearch_path%3Dairflow&application_name=mine");
    assert_eq!(own.get_options(), Some("-c search_path=airflow"));
    assert_eq!(own.get_application_name(), Some("mine"));
    assert_eq!(parsed("postgresql://u@h/d").get_application_name(), Some("windlass"));
    let config = DatabaseConfig::parse("postgresql://u@h/d?connect_timeout=3").unwrap();
    assert_eq!(config.connect_timeout(), Duration::from_secs(3));
}

#[test]
fn what_cannot_be_used_is_named_with_the_remedy() {
    let cases = [
        ("", "the connection string is empty", "set [database] sql_alchemy_conn"),
        ("sqlite:////x/airflow.db", "does not support `sqlite://`", "PostgreSQL 14"),
        ("mysql+mysqldb://u:p@h/d", "does not support `mysql+mysqldb://`", "postgresql+psycopg2://"),
        ("u:hunter2@h/d", "does not begin with a scheme", "set [database]"),
        ("postgresql://u:p@h:port/d", "port is `port`", "%3A"),
        ("postgresql://u:hunter@hunter@h/d", "more than one `@`", "%40"),
        ("postgresql://u@h/d?port=0", "port is `0`", "%40"),
        ("postgresql://u@a,b/d", "several hosts (`a,b`)", "primary"),
        ("postgresql://u@h/d?sslmode=on", "option sslmode is `on`", "correct it"),
        ("postgresql://u@h/d?service=x", "option `service` is not supported", "leave it out"),
        ("postgresql://u:%ff@h/d", "password is not UTF-8", "percent-encode"),
    ];
    for (text, message, hint) in cases {
        let error = DatabaseConfig::parse(text).unwrap_err();
        assert!(error.to_string().contains(message), "{text}: {error}");
        assert!(error.hint().contains(hint), "{text}: {}", error.hint());
        assert!(!format!("{error} {error:?}").contains("hunter"), "{error:?}");
    }
}
