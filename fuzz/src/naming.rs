//! Names that decide: tenant hostnames, and rights of gateway keys.

use postrider_core::gateway::hostname::{Headers, Pattern, parse_token};
use postrider_core::gateway::rights::{Need, Right, Rights};
use postrider_core::limits::GATEWAY_TOKEN_BYTES_MAX;

/// Lines: a pattern, `Host`, `X-Forwarded-Host`, `Forwarded`.
///
/// - A token is one label, and its hostname stands for it.
/// - Case, the dot of the root and a port change nothing; an address in brackets stands for nothing.
/// - What a peer forwards counts only if it is trusted.
///
/// # Panics
/// If one of these does not hold.
pub fn hostnames(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let [pattern, host, x_forwarded_host, forwarded] = [(); 4].map(|()| lines.next());
    let Ok(pattern) = pattern.unwrap_or_default().parse::<Pattern>() else { return };
    assert_eq!(pattern.to_string().parse::<Pattern>().as_ref(), Ok(&pattern));
    let headers = Headers { host, x_forwarded_host, forwarded };
    let own = pattern.tokens(headers, false);
    let all = pattern.tokens(headers, true);
    assert_eq!(own, pattern.tokens(Headers { host, ..Headers::default() }, true));
    assert!(own.len() <= 1 && all.len() <= 3 && all.starts_with(&own), "{own:?} {all:?}");
    for token in &all {
        assert_eq!(parse_token(token).as_ref(), Ok(token));
        assert!((1..=GATEWAY_TOKEN_BYTES_MAX).contains(&token.len()) && !token.contains('.'), "{token}");
        let name = pattern.host(token);
        for spelled in [name.clone(), name.to_ascii_uppercase(), format!("{name}."), format!("{name}:8443")] {
            assert_eq!(pattern.token(&spelled).as_ref(), Some(token), "{spelled}");
        }
    }
    let Some(host) = host else { return };
    let token = pattern.token(host);
    assert_eq!(token, pattern.token(&host.to_ascii_uppercase()));
    assert!(token.is_none() || !host.trim().starts_with('['), "{host}");
    // Nobody is taken for a name that is not below the pattern's domain.
    let domain = pattern.to_string();
    assert!(token.is_none() || host.to_ascii_lowercase().contains(&domain[1..]), "{host}");
}

/// Lines: a table, and then rights.
///
/// - A right without wildcards grants one need: the one that it spells.
/// - What one right grants, it grants among others; what all together grant, one of them does.
/// - A table is no pattern.
///
/// # Panics
/// If one of these does not hold.
pub fn rights(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (table, rights) = text.split_once('\n').unwrap_or((&text, ""));
    let needs = [Need::Read(table), Need::Write(table), Need::Delete(table), Need::Query];
    let parsed: Vec<Right> = rights.split('\n').filter_map(|right| Right::parse(right).ok()).collect();
    for right in &parsed {
        let shown = right.to_string();
        assert_eq!(Right::parse(&shown).as_ref(), Ok(right));
        let (resource, action) = shown.rsplit_once('.').unwrap_or((&shown, "*"));
        for need in needs {
            let spelled = need.to_string();
            if right.grants(need) {
                let of_resource = ["*", "gateway"].contains(&resource) || spelled.starts_with(&format!("{resource}."));
                assert!(
                    of_resource && (action == "*" || spelled.ends_with(&format!(".{action}"))),
                    "{shown}: {spelled}"
                );
            }
            if !["*", "gateway"].contains(&resource) && action != "*" {
                assert_eq!(right.grants(need), shown == spelled, "{shown}: {spelled}");
            }
        }
    }
    let texts: Vec<String> = parsed.iter().map(Right::to_string).collect();
    let Ok(all) = Rights::parse(&texts) else { return };
    for need in needs {
        assert_eq!(all.grant(need), parsed.iter().any(|right| right.grants(need)), "{need}");
        assert!(!Rights::default().grant(need));
    }
}
