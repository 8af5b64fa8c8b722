//! What a Pod is called and whom it asks for names: what is read of that, and what is refused where it stands.

use podkeep::manifest::pod::{DnsPolicy, HostAlias, Pod, PodDns};

use super::{errors, read};

fn manifest(spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web, namespace: shop}}\nspec:\n  containers: [{{name: c, image: i:1}}]\n{spec}"
    )
}

fn pod(spec: &str) -> Pod {
    let text = manifest(spec);
    let pod = read(&text).unwrap_or_else(|errors| panic!("{text}: {errors:?}")).pods.remove(0);
    let mut again = podkeep::manifest::from_source(&pod.source, "edge7").unwrap();
    // What is shown keeps the empty maps that a person wrote.
    again.object = pod.object.clone();
    assert_eq!(again, pod, "what is saved gives the same Pod");
    pod
}

#[test]
fn a_pod_is_called_by_its_fields_or_after_itself() {
    let named = |spec: &str| {
        let pod = pod(spec);
        (pod.hostname, pod.subdomain, pod.hostname_is_fqdn)
    };
    let some = |name: &str| Some(name.to_owned());
    assert_eq!(named(""), (some("web-edge7"), None, false));
    assert_eq!(named("  hostname: ''\n  subdomain: ''\n  hostnameOverride: ''\n"), named(""));
    let all = "  hostname: h\n  subdomain: s\n";
    assert_eq!(named(&format!("{all}  setHostnameAsFQDN: true\n")), (some("h"), some("s"), true));
    let longest = format!("{}.{}", "a".repeat(32), "b".repeat(31));
    let spec = format!("{all}  hostnameOverride: {longest}\n");
    assert_eq!(named(&spec), (Some(longest), None, false), "goes before both");
    // On the host's network it has the host's name, and none of its own can be too long.
    let spec = format!("  hostNetwork: true\n  subdomain: {}\n  setHostnameAsFQDN: true\n", "s".repeat(63));
    assert_eq!(named(&spec).0, None);
}

#[test]
fn names_are_asked_for_as_the_manifest_says() {
    assert_eq!(pod("").dns, PodDns::default());
    assert_eq!(pod("  dnsPolicy: ''\n  dnsConfig: {}\n").dns, PodDns::default());
    let policies = [
        ("ClusterFirst", DnsPolicy::ClusterFirst),
        ("ClusterFirstWithHostNet", DnsPolicy::ClusterFirstWithHostNet),
        ("Default", DnsPolicy::Default),
    ];
    for (word, policy) in policies {
        assert_eq!(pod(&format!("  dnsPolicy: {word}\n")).dns.policy, Some(policy));
    }
    let searches: Vec<String> = (0..32).map(|n| format!("_{n}{}", ".a".repeat(30))).collect();
    let spec = format!(
        "  dnsPolicy: None\n  dnsConfig: {{nameservers: [10.0.0.1, '2001:db8::1', 10.0.0.2], searches: [{}], \
         options: [{{name: ndots, value: '2'}}, {{name: edns0}}]}}\n",
        searches.join(", ")
    );
    let expected = PodDns {
        policy: Some(DnsPolicy::None),
        servers: ["10.0.0.1", "2001:db8::1", "10.0.0.2"].map(|server| server.parse().unwrap()).into(),
        searches,
        options: vec!["ndots:2".to_owned(), "edns0".to_owned()],
    };
    assert_eq!(pod(&spec).dns, expected);
    assert_eq!(pod("  dnsConfig: {searches: [., a.b.]}\n").dns.searches, [".", "a.b."]);

    let aliases = pod("  hostAliases: [{ip: '::1', hostnames: [a, b.c]}, {ip: 10.0.0.1}]\n").host_aliases;
    let alias = |ip: &str, names: &[&str]| HostAlias {
        ip: ip.parse().unwrap(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    assert_eq!(aliases, [alias("::1", &["a", "b.c"]), alias("10.0.0.1", &[])]);
}

#[track_caller]
fn is_wrong(spec: &str, expected: &[&str]) {
    let found = errors(&manifest(spec));
    let as_expected = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| found.contains(expected));
    assert!(as_expected, "{spec}: {found:#?}");
}

#[test]
fn a_name_that_the_kernel_or_kubernetes_does_not_take_is_refused() {
    is_wrong(
        "  hostname: a.b\n",
        &["6:13: error: spec.hostname: Invalid value: \"a.b\": a lowercase RFC 1123 label"],
    );
    is_wrong(
        "  subdomain: S\n",
        &["6:14: error: spec.subdomain: Invalid value: \"S\": a lowercase RFC 1123 label"],
    );
    // web-edge7.sss….shop.svc
    let with = |length: usize| format!("  subdomain: {}\n  setHostnameAsFQDN: true\n", "s".repeat(length));
    assert_eq!(errors(&manifest(&with(45))), [""; 0]);
    is_wrong(
        &with(46),
        &[
            "7:22: error: spec.setHostnameAsFQDN: Invalid value: \"web-edge7.ssssssssssssssssssssssssssssssssssssssssssssss.shop.svc\": \
           the kernel's name of a host must be no more than 64 bytes, and this has 65",
        ],
    );
    is_wrong(
        &format!("  hostnameOverride: {}.a\n", "a".repeat(63)),
        &["6:21: error: spec.hostnameOverride: Invalid value: "],
    );
    is_wrong("  hostnameOverride: a_b\n", &["6:21: error: spec.hostnameOverride: Invalid value: \"a_b\""]);
    is_wrong(
        "  hostnameOverride: a.b\n  hostNetwork: true\n  setHostnameAsFQDN: true\n",
        &[
            "6:21: error: spec.hostnameOverride: Forbidden: may not be set together with hostNetwork",
            "6:21: error: spec.hostnameOverride: Forbidden: may not be set together with setHostnameAsFQDN",
        ],
    );
    is_wrong("  subDomain: a\n", &["6:3: error: unknown field: spec.subDomain; did you mean `subdomain`?"]);
}

#[test]
fn an_alias_has_an_address_and_names() {
    is_wrong(
        "  hostAliases:\n  - {ip: 10.0.0, hostnames: [a]}\n  - {ip: '', hostnames: [a b, '']}\n  - {ip: 010.0.0.1}\n  \
         - {hostnames: [a]}\n",
        &[
            "7:10: error: spec.hostAliases[0].ip: Invalid value: \"10.0.0\": must be a valid IP address",
            "8:10: error: spec.hostAliases[1].ip: Required value",
            "8:26: error: spec.hostAliases[1].hostnames[0]: Invalid value: \"a b\": a lowercase RFC 1123 subdomain",
            "8:31: error: spec.hostAliases[1].hostnames[1]: Required value",
            "9:10: error: spec.hostAliases[2].ip: Invalid value: \"010.0.0.1\"",
            "10:6: error: spec.hostAliases[3].ip: Required value",
        ],
    );
}

#[test]
fn what_no_library_would_read_of_dns_is_refused() {
    is_wrong(
        "  dnsPolicy: Clusterfirst\n",
        &["6:14: error: spec.dnsPolicy: Unsupported value: \"Clusterfirst\": supported values: \
           \"ClusterFirstWithHostNet\", \"ClusterFirst\", \"Default\", \"None\""],
    );
    let none = "spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when dnsPolicy is None";
    is_wrong("  dnsPolicy: None\n", &[none]);
    is_wrong("  dnsPolicy: None\n  dnsConfig: {searches: [a]}\n", &[&format!("7:3: error: {none}")]);
    is_wrong(
        "  dnsConfig: {nameservers: [10.0.0.1, 10.0.0.2, dns.example, 'fe80::1%eth0']}\n",
        &[
            "6:15: error: spec.dnsConfig.nameservers: must not have more than 3 nameservers",
            "6:49: error: spec.dnsConfig.nameservers[2]: Invalid value: \"dns.example\": must be a valid IP address",
            "6:62: error: spec.dnsConfig.nameservers[3]: Invalid value: \"fe80::1%eth0\"",
        ],
    );
    is_wrong(
        &format!("  dnsConfig: {{searches: [{}]}}\n", ["a"; 33].join(", ")),
        &["6:15: error: spec.dnsConfig.searches: must not have more than 32 search paths"],
    );
    // 8 × 249 and 8 spaces, then what still has room and one too many.
    let long = |last: usize| {
        let all = format!("{}{}", format!("b{}.a, ", ".a".repeat(123)).repeat(8), "c".repeat(last));
        format!("  dnsConfig: {{searches: [{all}]}}\n")
    };
    assert_eq!(errors(&manifest(&long(48))), [""; 0]);
    is_wrong(
        &long(49),
        &[
            "spec.dnsConfig.searches: must not have more than 2048 characters (including spaces) in the search list",
        ],
    );
    is_wrong(
        "  dnsConfig: {searches: [a..b, ''], options: [{value: '1'}, {name: \"a b\"}, {name: a, value: \"1\\nb\"}]}\n",
        &[
            "6:26: error: spec.dnsConfig.searches[0]: Invalid value: \"a..b\"",
            "6:32: error: spec.dnsConfig.searches[1]: Required value",
            "spec.dnsConfig.options[0].name: Required value",
            "spec.dnsConfig.options[1].name: Invalid value: \"a b\": must not contain white space",
            "spec.dnsConfig.options[2].value: Invalid value: \"1\\nb\": must not contain white space",
        ],
    );
}
