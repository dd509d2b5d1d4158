//! What a client may use: services and tools, by tier, client and scope.
//!
//! Invariant: a request passes only if every message in it is allowed. What could not be read is
//! refused wherever a rule that applies to the client names tools, because it might be any of them.
//! Answers to `tools/list` are not rewritten: a denied tool is seen and cannot be called.

use std::borrow::Cow;
use std::collections::HashMap;

use async_trait::async_trait;
use http::header::WWW_AUTHENTICATE;

use crate::call::{Call, Message};
use crate::chain::Filter;
use crate::ids::{Principal, TierName};
use crate::reason::Reason;
use crate::request::{Identity, Request};
use crate::verdict::{Reply, Verdict};

/// A text in which `*` stands for any characters, none included. Case matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// Every text is a pattern.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Whether the whole of `text` fits. Linear in the usual case, never exponential: only the last
    /// star is ever tried again.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t, mut star) = (0, 0, None);
        while let Some(byte) = text.get(t) {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(wanted) if wanted == byte => {
                    p += 1;
                    t += 1;
                }
                _ => match star {
                    Some((at, from)) => {
                        star = Some((at, from + 1));
                        p = at + 1;
                        t = from + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern.iter().skip(p).all(|byte| *byte == b'*')
    }
}

/// A tool of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolPattern {
    service: Pattern,
    tool: Pattern,
}

impl ToolPattern {
    /// `service/tool`, or `tool` for that tool of every service. The first slash divides; a tool with a
    /// slash in its name is written `*/a/b`.
    pub fn new(text: &str) -> Self {
        let (service, tool) = text.split_once('/').unwrap_or(("*", text));
        Self {
            service: Pattern::new(service),
            tool: Pattern::new(tool),
        }
    }
}

/// What a tier or client may use. Denying wins over allowing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessRule {
    /// Services; empty allows all.
    pub allow_services: Vec<Pattern>,
    /// Services that are not allowed.
    pub deny_services: Vec<Pattern>,
    /// Tools; empty allows all.
    pub allow_tools: Vec<ToolPattern>,
    /// Tools that are not allowed.
    pub deny_tools: Vec<ToolPattern>,
}

/// A scope that the token must carry for these services and tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeRule {
    /// The scope.
    pub scope: String,
    /// Services of which every request needs it.
    pub services: Vec<Pattern>,
    /// Tools of which every call needs it.
    pub tools: Vec<ToolPattern>,
}

/// Who may use what. A client's own allow list takes the place of its tier's; both deny lists count.
#[derive(Debug, Clone, Default)]
pub struct AuthorizeConfig {
    /// By tier.
    pub tiers: HashMap<TierName, AccessRule>,
    /// By client.
    pub clients: HashMap<Principal, AccessRule>,
    /// By scope.
    pub scopes: Vec<ScopeRule>,
}

/// The filter.
pub struct Authorize(AuthorizeConfig);

/// The rules that apply to one client.
struct Rules<'a> {
    tier: Option<&'a AccessRule>,
    client: Option<&'a AccessRule>,
}

impl<'a> Rules<'a> {
    fn allowed<T: 'a>(&self, list: impl Fn(&'a AccessRule) -> &'a [T]) -> &'a [T] {
        let own = self.client.map(&list).filter(|list| !list.is_empty());
        own.or(self.tier.map(&list)).unwrap_or(&[])
    }

    fn any<T: 'a>(&self, list: impl Fn(&'a AccessRule) -> &'a [T], fits: impl Fn(&T) -> bool) -> bool {
        [self.tier, self.client]
            .into_iter()
            .flatten()
            .flat_map(list)
            .any(fits)
    }
}

fn names(patterns: &[Pattern], service: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(service))
}

impl Authorize {
    /// A filter with these rules.
    pub fn new(config: AuthorizeConfig) -> Self {
        Self(config)
    }

    fn check(&self, who: &Identity, req: &Request) -> Result<(), Reply> {
        let service = req.service.as_str();
        let rules = Rules {
            tier: self.0.tiers.get(&who.tier),
            client: self.0.clients.get(&who.principal),
        };
        let allowed = rules.allowed(|rule| &rule.allow_services);
        let denied = rules.any(|rule| &rule.deny_services, |pattern| pattern.matches(service));
        if denied || !(allowed.is_empty() || names(allowed, service)) {
            let message = format!("the service `{service}` is not open to this client");
            return Err(Reply::new(Reason::ServiceDenied, message));
        }
        let mut missing: Vec<&str> = Vec::new();
        self.missing(who, &mut missing, |rule| names(&rule.services, service));
        match &req.call {
            Call::NotRpc => {}
            Call::Unknown => self.check_unread(&rules, service)?,
            Call::Single(message) => self.check_message(who, &rules, service, message, &mut missing)?,
            Call::Batch(messages) => {
                for message in messages {
                    self.check_message(who, &rules, service, message, &mut missing)?;
                }
            }
        }
        if missing.is_empty() {
            Ok(())
        } else {
            Err(scope_missing(&missing))
        }
    }

    fn check_message<'a>(
        &'a self,
        who: &Identity,
        rules: &Rules<'_>,
        service: &str,
        message: &Message,
        missing: &mut Vec<&'a str>,
    ) -> Result<(), Reply> {
        if message.method() != Some("tools/call") {
            return Ok(());
        }
        // Without a name it is as good as unread; every server refuses it anyway.
        let Some(tool) = message.tool().filter(|tool| !tool.is_empty()) else {
            return self.check_unread(rules, service);
        };
        let fits = |pattern: &ToolPattern| pattern.service.matches(service) && pattern.tool.matches(tool);
        let allowed = rules.allowed(|rule| &rule.allow_tools);
        let denied = rules.any(|rule| &rule.deny_tools, fits);
        if denied || !(allowed.is_empty() || allowed.iter().any(fits)) {
            return Err(tool_denied(tool.to_owned().into()));
        }
        self.missing(who, missing, |rule| rule.tools.iter().any(fits));
        Ok(())
    }

    /// A call whose tool is not known passes only where no rule names a tool.
    fn check_unread(&self, rules: &Rules<'_>, service: &str) -> Result<(), Reply> {
        let here = |pattern: &ToolPattern| pattern.service.matches(service);
        let by_scope = self.0.scopes.iter().any(|rule| rule.tools.iter().any(here));
        let by_rule =
            !rules.allowed(|rule| &rule.allow_tools).is_empty() || rules.any(|rule| &rule.deny_tools, here);
        if by_scope || by_rule {
            return Err(tool_denied("(unread)".into()));
        }
        Ok(())
    }

    /// Adds the scopes that are needed and not granted.
    fn missing<'a>(&'a self, who: &Identity, missing: &mut Vec<&'a str>, needs: impl Fn(&ScopeRule) -> bool) {
        for rule in self.0.scopes.iter().filter(|rule| needs(rule)) {
            let scope = rule.scope.as_str();
            if !who.scopes.iter().any(|granted| **granted == *scope) && !missing.contains(&scope) {
                missing.push(scope);
            }
        }
    }
}

fn tool_denied(tool: Cow<'static, str>) -> Reply {
    let message = match tool.as_ref() {
        "(unread)" => "the tool of this call could not be read, and this client may not call every tool; \
                       send `method` and `params.name` once, unescaped and before the arguments"
            .into(),
        // A name is the client's own text; a long one is not worth sending back.
        tool => format!(
            "the tool `{}` is not open to this client",
            tool.chars().take(64).collect::<String>()
        ),
    };
    Reply::new(Reason::ToolDenied, message)
}

/// 403 that names all scopes at once (RFC 6750 section 3.1).
fn scope_missing(missing: &[&str]) -> Reply {
    let scopes = missing.join(" ");
    let challenge = format!("Bearer realm=\"mcp-edge\", error=\"insufficient_scope\", scope=\"{scopes}\"");
    Reply::new(
        Reason::ScopeMissing,
        format!("the token lacks the scopes: {scopes}"),
    )
    .header(WWW_AUTHENTICATE, &challenge)
}

#[async_trait]
impl Filter for Authorize {
    fn name(&self) -> &'static str {
        "authorize"
    }

    async fn on_request(&self, req: &mut Request) -> Verdict {
        let Some(who) = &req.identity else {
            return Verdict::Continue;
        };
        match self.check(who, req) {
            Ok(()) => Verdict::Continue,
            Err(reply) => reply.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::RpcMethod;
    use crate::testing::request;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn patterns(list: &[&str]) -> Vec<Pattern> {
        list.iter().map(|text| Pattern::new(text)).collect()
    }

    fn tools(list: &[&str]) -> Vec<ToolPattern> {
        list.iter().map(|text| ToolPattern::new(text)).collect()
    }

    fn filter() -> Authorize {
        let free = AccessRule {
            allow_services: patterns(&["files", "mem*"]),
            deny_services: patterns(&["memory-admin"]),
            deny_tools: tools(&["files/write_*", "delete"]),
            ..Default::default()
        };
        let vip = AccessRule {
            allow_services: patterns(&["*"]),
            deny_tools: tools(&["files/rm"]),
            ..Default::default()
        };
        let narrow = AccessRule {
            allow_tools: tools(&["*/read_*"]),
            ..Default::default()
        };
        Authorize::new(AuthorizeConfig {
            tiers: HashMap::from([("free".into(), free)]),
            clients: HashMap::from([
                (Principal::of("i", "vip"), vip),
                (Principal::of("i", "narrow"), narrow),
            ]),
            scopes: vec![
                ScopeRule {
                    scope: "git".into(),
                    services: patterns(&["git"]),
                    tools: vec![],
                },
                ScopeRule {
                    scope: "git:push".into(),
                    services: vec![],
                    tools: tools(&["git/push"]),
                },
            ],
        })
    }

    fn reply(client: &str, tier: &str, service: &str, call: Call, scopes: &[&str]) -> Option<Reply> {
        let mut req = request(client, tier);
        let mut who = (**req.identity.as_ref().unwrap()).clone();
        who.scopes = scopes.iter().map(|s| Box::from(*s)).collect();
        (req.service, req.call, req.identity) = (service.into(), call, Some(Arc::new(who)));
        filter().check(req.identity.as_ref().unwrap(), &req).err()
    }

    fn ask(client: &str, tier: &str, service: &str, call: Call) -> Option<Reason> {
        reply(client, tier, service, call, &[]).map(|reply| reply.reason)
    }

    fn list() -> Call {
        Call::Single(Message::Request {
            method: RpcMethod::new("tools/list"),
            name: None,
        })
    }

    #[test]
    fn services_by_tier_and_client() {
        for (client, service, expected) in [
            ("a", "files", None),
            ("a", "memory", None),
            ("a", "memory-admin", Some(Reason::ServiceDenied)),
            ("a", "postgres", Some(Reason::ServiceDenied)),
            ("vip", "postgres", None),
            ("vip", "memory-admin", Some(Reason::ServiceDenied)),
        ] {
            assert_eq!(
                ask(client, "free", service, list()),
                expected,
                "{client} {service}"
            );
        }
        assert_eq!(
            ask("a", "pro", "postgres", list()),
            None,
            "a tier without rules may use all"
        );
    }

    #[test]
    fn tools_by_tier_and_client() {
        for (client, tool, expected) in [
            ("a", "read", None),
            ("a", "write_file", Some(Reason::ToolDenied)),
            ("a", "delete", Some(Reason::ToolDenied)),
            ("a", "Delete", None),
            ("vip", "write_file", Some(Reason::ToolDenied)),
            ("vip", "rm", Some(Reason::ToolDenied)),
            ("narrow", "read_x", None),
            ("narrow", "list", Some(Reason::ToolDenied)),
        ] {
            assert_eq!(
                ask(client, "free", "files", Call::tool(tool)),
                expected,
                "{client} {tool}"
            );
        }
        assert_eq!(ask("a", "free", "memory", Call::tool("write_file")), None);
    }

    #[test]
    fn every_element_of_a_batch_is_asked_and_the_unread_is_refused_where_tools_are_named() {
        let message = |tool| Call::tool(tool).messages()[0].clone();
        let batch = Call::Batch(vec![message("read"), message("delete")]);
        assert_eq!(ask("a", "free", "files", batch), Some(Reason::ToolDenied));
        assert_eq!(ask("a", "free", "files", Call::Unknown), Some(Reason::ToolDenied));
        assert_eq!(ask("a", "pro", "files", Call::Unknown), None);
        assert_eq!(
            ask("a", "pro", "git", Call::Unknown),
            Some(Reason::ToolDenied),
            "a scope names git/push"
        );
        let nameless = Call::Single(Message::Request {
            method: RpcMethod::new("tools/call"),
            name: None,
        });
        assert_eq!(ask("a", "free", "files", nameless), Some(Reason::ToolDenied));
        assert_eq!(
            ask("a", "free", "files", Call::tool("")),
            Some(Reason::ToolDenied)
        );
    }

    #[test]
    fn missing_scopes_are_named_all_at_once() {
        let sent = reply("a", "pro", "git", Call::tool("push"), &[]).unwrap();
        assert_eq!(sent.reason, Reason::ScopeMissing);
        assert_eq!(
            sent.headers[0].1.to_str().unwrap(),
            "Bearer realm=\"mcp-edge\", error=\"insufficient_scope\", scope=\"git git:push\""
        );
        assert!(reply("a", "pro", "git", Call::tool("push"), &["git"]).is_some());
        assert!(reply("a", "pro", "git", Call::tool("log"), &["git"]).is_none());
        assert!(reply("a", "pro", "git", Call::tool("push"), &["git:push", "git"]).is_none());
    }

    /// Tries every way to share the text among the stars.
    fn oracle(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|n| oracle(rest, &text[n..])),
            Some((byte, rest)) => text
                .split_first()
                .is_some_and(|(t, more)| t == byte && oracle(rest, more)),
        }
    }

    proptest! {
        #[test]
        fn patterns_match_as_the_oracle_does(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(Pattern::new(&pattern).matches(&text), oracle(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
