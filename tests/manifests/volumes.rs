//! emptyDirs: what they may lie on, and how large they may be.

use podkeep::manifest::pod::{Medium, VolumeKind};

use super::{SIMPLE, errors, read};

/// `limits`: of the container that has the volume.
fn with(empty_dir: &str, limits: &str) -> String {
    let limited = SIMPLE.replace("        memory: 64Mi\n", &format!("        memory: 64Mi\n{limits}"));
    limited.replace("emptyDir: {}", &format!("emptyDir: {empty_dir}"))
}

fn volume(empty_dir: &str, limits: &str) -> (Medium, Option<u64>) {
    let read = read(&with(empty_dir, limits)).unwrap_or_else(|errors| panic!("{empty_dir}: {errors:?}"));
    match &read.pods[0].volumes[0].kind {
        VolumeKind::EmptyDir { medium, size_limit } => (*medium, *size_limit),
        other => panic!("{other:?}"),
    }
}

const PAGES: &str = "        hugepages-2Mi: 4Mi\n";
const OTHERS: &str = "        hugepages-1Gi: 1Gi\n";

#[test]
fn an_empty_dir_lies_on_the_disk_in_memory_or_in_huge_pages_and_may_have_a_limit() {
    assert_eq!(volume("{}", ""), (Medium::Disk, None));
    assert_eq!(volume("{medium: '', sizeLimit: 1Gi}", ""), (Medium::Disk, Some(1 << 30)));
    assert_eq!(volume("{sizeLimit: 0}", ""), (Medium::Disk, None), "as the kubelet takes it");
    assert_eq!(volume("{medium: Memory, sizeLimit: 1M}", ""), (Medium::Memory, Some(1_000_000)));
    let huge = |size| (Medium::HugePages(size), None);
    assert_eq!(volume("{medium: HugePages}", PAGES), huge(2 << 20));
    assert_eq!(volume("{medium: HugePages-2048Ki}", PAGES), huge(2 << 20));
    assert_eq!(volume("{medium: HugePages-1Gi}", &format!("{PAGES}{OTHERS}")), huge(1 << 30));
}

#[test]
fn what_is_wrong_with_an_empty_dir_is_named_at_its_place() {
    let both = format!("{PAGES}{OTHERS}");
    for (empty_dir, limits, place, expected) in [
        (
            "{sizeLimit: -1}",
            "",
            "18:27",
            "sizeLimit: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
        ("{sizeLimit: big}", "", "18:27", "sizeLimit: Invalid value: \"big\": quantities must match"),
        ("{medium: memory}", "", "18:24", "medium: Unsupported value: \"memory\": did you mean \"Memory\"?"),
        (
            "{medium: HugePages-}",
            "",
            "18:24",
            "medium: Unsupported value: \"HugePages-\": did you mean \"HugePages\"?",
        ),
        (
            "{medium: SSD}",
            "",
            "18:24",
            "medium: Unsupported value: \"SSD\": supported values: \"\", \"Memory\",",
        ),
        ("{medium: HugePages}", "", "18:24", "there is no resource request for huge pages"),
        (
            "{medium: HugePages-1Gi}",
            PAGES,
            "19:24",
            "there is no resource request for huge pages of that size",
        ),
        (
            "{medium: HugePages}",
            &both,
            "20:24",
            "can't be used if containers request multiple huge page sizes",
        ),
    ] {
        let errors = errors(&with(empty_dir, limits));
        let [error] = &errors[..] else { panic!("{empty_dir}: {errors:?}") };
        assert!(error.contains(expected), "{empty_dir}: {error}");
        assert!(error.starts_with(&format!("pod.yaml:{place}: error: spec.volumes[0].emptyDir.")), "{error}");
    }
}

#[test]
fn a_limit_of_ephemeral_storage_is_requested_too_and_does_not_count_for_the_class() {
    let mut pods = read(&with("{}", "        ephemeral-storage: 1Gi\n")).unwrap().pods;
    let pod = pods.remove(0);
    let resources = &pod.containers[0].resources;
    assert_eq!(resources.limits.ephemeral_storage, Some(1 << 30));
    assert_eq!(resources.requests.ephemeral_storage, Some(1 << 30));
    assert_eq!(pod.object["spec"]["containers"][0]["resources"]["requests"]["ephemeral-storage"], "1Gi");
    let without = read(&with("{}", "")).unwrap().pods.remove(0);
    assert_eq!(pod.qos_class(), without.qos_class());
}
