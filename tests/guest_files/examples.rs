//! The examples of Kubernetes' documentation for each kind of volume: what their containers see, to the mode.

use std::fs;
use std::os::unix::net::UnixListener;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::harness::manifest::ShellPod;
use crate::harness::{Node, Options};

/// As the tasks that the examples belong to have them made.
const OBJECTS: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: special-config}
data: {SPECIAL_LEVEL: very, SPECIAL_TYPE: charm}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: example-redis-config}
data: {redis-config: \"maxmemory 2mb\\nmaxmemory-policy allkeys-lru\\n\"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: myconfigmap}
data: {config: my-config}
---
apiVersion: v1
kind: Secret
metadata: {name: test-secret}
data: {username: bXktYXBw, password: Mzk1MjgkdmRnN0pi}
---
apiVersion: v1
kind: Secret
metadata: {name: dotfile-secret}
data: {.secret-file: dmFsdWUtMg0KDQo=}
---
apiVersion: v1
kind: Secret
metadata: {name: user}
stringData: {username.txt: admin}
---
apiVersion: v1
kind: Secret
metadata: {name: pass}
stringData: {password.txt: 1f2d1e2e67df}
";

/// Says of each place whether it can be written to, and of all in it where links lead, and of what they lead to mode, owner, kind
/// and content. The folder that `..data` leads to has a name of its own each time.
const LOOK: &str = r#"one() {
    printf %s "$1"; [ -L "$1" ] && printf ' -> %s' "$(readlink "$1" | sed 's/^\.\.[0-9].*/..TIME/')"
    printf ' %s' "$(stat -Lc '%a %u:%g %F' "$1")"; [ -f "$1" ] && printf ' = %s' "$(cat "$1")"; echo
}
for place; do
    grep -q " $place [^ ]* rw," /proc/mounts && echo "$place rw" || echo "$place ro"
    [ -d "$place" ] || { one "$place"; continue; }
    cd "$place"; one .; [ -L ..data ] && one ..data
    find -L . | sed 's,^\./,,' | grep -v '^\.$\|^\.\.' | sort | while read -r file; do one "$file"; done
done"#;

struct Example {
    /// Below `content/en/examples/` of Kubernetes' website, or the page that it stands on.
    of: &'static str,
    /// Metadata beside the name.
    metadata: &'static str,
    /// Its volumes, and where they are mounted.
    volumes: &'static str,
    mounts: &'static str,
    /// Where it is looked.
    places: &'static str,
    seen: &'static str,
}

impl Example {
    fn manifest(&self, name: &str, host: &str) -> String {
        let spec = format!("restartPolicy: Never\nvolumes:\n{}", self.volumes);
        let container = format!("args: [sh, {}]\nvolumeMounts:\n{}", self.places, self.mounts);
        let pod = ShellPod { name, script: LOOK, spec: &spec, container: &container }.yaml();
        let metadata = format!("metadata: {{name: {name}{}}}", self.metadata);
        pod.replace(&format!("metadata: {{name: {name}}}"), &metadata).replace("@HOST", host)
    }
}

const EXAMPLES: [Example; 15] = [
    Example {
        of: "pods/pod-configmap-volume.yaml",
        metadata: "",
        volumes: "- {name: config-volume, configMap: {name: special-config}}",
        mounts: "- {name: config-volume, mountPath: /etc/config}",
        places: "/etc/config",
        seen: "/etc/config ro\n. 777 0:0 directory\n..data -> ..TIME 755 0:0 directory\n\
            SPECIAL_LEVEL -> ..data/SPECIAL_LEVEL 644 0:0 regular file = very\n\
            SPECIAL_TYPE -> ..data/SPECIAL_TYPE 644 0:0 regular file = charm\n",
    },
    Example {
        of: "pods/pod-configmap-volume-specific-key.yaml",
        metadata: "",
        volumes: "- {name: config-volume, configMap: {name: special-config, items: [{key: SPECIAL_LEVEL, path: keys}]}}",
        mounts: "- {name: config-volume, mountPath: /etc/config}",
        places: "/etc/config",
        seen: "/etc/config ro\n. 777 0:0 directory\n..data -> ..TIME 755 0:0 directory\n\
            keys -> ..data/keys 644 0:0 regular file = very\n",
    },
    Example {
        of: "pods/config/redis-pod.yaml",
        metadata: "",
        volumes: "\
- {name: data, emptyDir: {}}
- {name: config, configMap: {name: example-redis-config, items: [{key: redis-config, path: redis.conf}]}}",
        mounts: "- {name: data, mountPath: /data}\n- {name: config, mountPath: /usr/local/etc/redis}",
        places: "/data, /usr/local/etc/redis",
        seen: "/data rw\n. 777 0:0 directory\n/usr/local/etc/redis ro\n. 777 0:0 directory\n\
            ..data -> ..TIME 755 0:0 directory\n\
            redis.conf -> ..data/redis.conf 644 0:0 regular file = maxmemory 2mb\nmaxmemory-policy allkeys-lru\n",
    },
    Example {
        of: "pods/inject/secret-pod.yaml",
        metadata: "",
        volumes: "- {name: secret-volume, secret: {secretName: test-secret}}",
        mounts: "- {name: secret-volume, mountPath: /etc/secret-volume, readOnly: true}",
        places: "/etc/secret-volume",
        seen: "/etc/secret-volume ro\n. 1777 0:0 directory\n..data -> ..TIME 755 0:0 directory\n\
            password -> ..data/password 644 0:0 regular file = 39528$vdg7Jb\n\
            username -> ..data/username 644 0:0 regular file = my-app\n",
    },
    Example {
        of: "distribute-credentials-secure, `defaultMode`",
        metadata: "",
        volumes: "- {name: foo, secret: {secretName: test-secret, defaultMode: 0400}}",
        mounts: "- {name: foo, mountPath: /etc/foo}",
        places: "/etc/foo",
        seen: "/etc/foo ro\n. 1777 0:0 directory\n..data -> ..TIME 755 0:0 directory\n\
            password -> ..data/password 400 0:0 regular file = 39528$vdg7Jb\n\
            username -> ..data/username 400 0:0 regular file = my-app\n",
    },
    Example {
        of: "distribute-credentials-secure, a path and a mode for one key",
        metadata: "",
        volumes: "- {name: foo, secret: {secretName: test-secret, items: [{key: username, path: my-group/my-username, mode: 0777}]}}",
        mounts: "- {name: foo, mountPath: /etc/foo}",
        places: "/etc/foo",
        seen: "/etc/foo ro\n. 1777 0:0 directory\n..data -> ..TIME 755 0:0 directory\n\
            my-group -> ..data/my-group 755 0:0 directory\nmy-group/my-username 777 0:0 regular file = my-app\n",
    },
    Example {
        of: "concepts/configuration/secret, dotfiles",
        metadata: "",
        volumes: "- {name: secret-volume, secret: {secretName: dotfile-secret}}",
        mounts: "- {name: secret-volume, mountPath: /etc/secret-volume, readOnly: true}",
        places: "/etc/secret-volume",
        seen: "/etc/secret-volume ro\n. 1777 0:0 directory\n..data -> ..TIME 755 0:0 directory\n\
            .secret-file -> ..data/.secret-file 644 0:0 regular file = value-2\r\n\r\n",
    },
    Example {
        of: "pods/storage/projected.yaml",
        metadata: "",
        volumes: "- {name: all-in-one, projected: {sources: [{secret: {name: user}}, {secret: {name: pass}}]}}",
        mounts: "- {name: all-in-one, mountPath: /projected-volume, readOnly: true}",
        places: "/projected-volume",
        seen: "/projected-volume ro\n. 1777 0:0 directory\n..data -> ..TIME 755 0:0 directory\n\
            password.txt -> ..data/password.txt 644 0:0 regular file = 1f2d1e2e67df\n\
            username.txt -> ..data/username.txt 644 0:0 regular file = admin\n",
    },
    Example {
        of: "pods/storage/projected-secret-downwardapi-configmap.yaml",
        metadata: ", labels: {app: all-in-one}",
        volumes: "\
- name: all-in-one
  projected:
    sources:
    - secret: {name: test-secret, items: [{key: username, path: my-group/my-username}]}
    - downwardAPI:
        items:
        - {path: labels, fieldRef: {fieldPath: metadata.labels}}
        - {path: cpu_limit, resourceFieldRef: {containerName: main, resource: limits.cpu}}
    - configMap: {name: myconfigmap, items: [{key: config, path: my-group/my-config}]}",
        mounts: "- {name: all-in-one, mountPath: /projected-volume, readOnly: true}",
        places: "/projected-volume",
        // Without a limit of its own it has all that the node has.
        seen: "/projected-volume ro\n. 1777 0:0 directory\n..data -> ..TIME 755 0:0 directory\n\
            cpu_limit -> ..data/cpu_limit 644 0:0 regular file = @CPUS\n\
            labels -> ..data/labels 644 0:0 regular file = app=\"all-in-one\"\n\
            my-group -> ..data/my-group 755 0:0 directory\nmy-group/my-config 644 0:0 regular file = my-config\n\
            my-group/my-username 644 0:0 regular file = my-app\n",
    },
    Example {
        of: "pods/storage/projected-secrets-nondefault-permission-mode.yaml",
        metadata: "",
        volumes: "\
- name: all-in-one
  projected:
    sources:
    - secret: {name: user, items: [{key: username.txt, path: my-group/my-username}]}
    - secret: {name: pass, items: [{key: password.txt, path: my-group/my-password, mode: 511}]}",
        mounts: "- {name: all-in-one, mountPath: /projected-volume, readOnly: true}",
        places: "/projected-volume",
        seen: "/projected-volume ro\n. 1777 0:0 directory\n..data -> ..TIME 755 0:0 directory\n\
            my-group -> ..data/my-group 755 0:0 directory\nmy-group/my-password 777 0:0 regular file = 1f2d1e2e67df\n\
            my-group/my-username 644 0:0 regular file = admin\n",
    },
    Example {
        of: "pods/inject/dapi-volume.yaml",
        metadata: ", labels: {zone: us-est-coast, cluster: test-cluster1, rack: rack-22}, annotations: {build: two, builder: john-doe}",
        volumes: "\
- name: podinfo
  downwardAPI:
    items:
    - {path: labels, fieldRef: {fieldPath: metadata.labels}}
    - {path: annotations, fieldRef: {fieldPath: metadata.annotations}}",
        mounts: "- {name: podinfo, mountPath: /etc/podinfo}",
        places: "/etc/podinfo",
        seen: "/etc/podinfo ro\n. 1777 0:0 directory\n..data -> ..TIME 755 0:0 directory\n\
            annotations -> ..data/annotations 644 0:0 regular file = build=\"two\"\nbuilder=\"john-doe\"\n\
            labels -> ..data/labels 644 0:0 regular file = cluster=\"test-cluster1\"\nrack=\"rack-22\"\nzone=\"us-est-coast\"\n",
    },
    Example {
        of: "pods/inject/dapi-volume-resources.yaml",
        metadata: "",
        volumes: "\
- name: podinfo
  downwardAPI:
    items:
    - {path: cpu_limit, resourceFieldRef: {containerName: main, resource: limits.cpu, divisor: 1m}}
    - {path: cpu_request, resourceFieldRef: {containerName: main, resource: requests.cpu, divisor: 1m}}
    - {path: mem_limit, resourceFieldRef: {containerName: main, resource: limits.memory, divisor: 1Mi}}
    - {path: mem_request, resourceFieldRef: {containerName: main, resource: requests.memory, divisor: 1Mi}}",
        mounts: "\
- {name: podinfo, mountPath: /etc/podinfo}
resources: {requests: {memory: 32Mi, cpu: 125m}, limits: {memory: 64Mi, cpu: 250m}}",
        places: "/etc/podinfo",
        seen: "/etc/podinfo ro\n. 1777 0:0 directory\n..data -> ..TIME 755 0:0 directory\n\
            cpu_limit -> ..data/cpu_limit 644 0:0 regular file = 250\n\
            cpu_request -> ..data/cpu_request 644 0:0 regular file = 125\n\
            mem_limit -> ..data/mem_limit 644 0:0 regular file = 64\n\
            mem_request -> ..data/mem_request 644 0:0 regular file = 32\n",
    },
    Example {
        of: "concepts/storage/volumes, emptyDir",
        metadata: "",
        volumes: "\
- {name: cache-volume, emptyDir: {sizeLimit: 500Mi}}
- {name: memory, emptyDir: {sizeLimit: 5Mi, medium: Memory}}",
        mounts: "- {name: cache-volume, mountPath: /cache}\n- {name: memory, mountPath: /memory}",
        places: "/cache, /memory",
        // The kubelet mounts a tmpfs as it is by itself: what one user puts there, no other can take away.
        seen: "/cache rw\n. 777 0:0 directory\n/memory rw\n. 1777 0:0 directory\n",
    },
    Example {
        of: "concepts/storage/volumes, hostPath and its FileOrCreate",
        metadata: "",
        volumes: "\
- {name: example-volume, hostPath: {path: @HOST/foo, type: Directory}}
- {name: mydir, hostPath: {path: @HOST/aaa/bbb, type: DirectoryOrCreate}}
- {name: myfile, hostPath: {path: @HOST/aaa/bbb/1.txt, type: FileOrCreate}}",
        mounts: "\
- {name: example-volume, mountPath: /foo, readOnly: true}
- {name: mydir, mountPath: /var/local/aaa}
- {name: myfile, mountPath: /var/local/aaa/1.txt}",
        places: "/foo, /var/local/aaa, /var/local/aaa/1.txt",
        seen: "/foo ro\n. 750 7:8 directory\nfile 640 7:8 regular file = foo\n/var/local/aaa rw\n. 755 0:0 directory\n\
            1.txt 644 0:0 regular empty file = \n/var/local/aaa/1.txt rw\n/var/local/aaa/1.txt 644 0:0 regular empty file = \n",
    },
    Example {
        of: "concepts/storage/volumes, the other types of a hostPath",
        metadata: "",
        volumes: "\
- {name: any, hostPath: {path: @HOST/any}}
- {name: file, hostPath: {path: @HOST/foo/file, type: File}}
- {name: socket, hostPath: {path: @HOST/socket, type: Socket}}
- {name: char, hostPath: {path: @HOST/char, type: CharDevice}}
- {name: block, hostPath: {path: @HOST/block, type: BlockDevice}}",
        mounts: "\
- {name: any, mountPath: /any}
- {name: file, mountPath: /file, readOnly: true}
- {name: socket, mountPath: /socket}
- {name: char, mountPath: /char}
- {name: block, mountPath: /block}",
        places: "/any, /file, /socket, /char, /block",
        // What is not there, and of no type, the runtime makes.
        seen: "/any rw\n. 755 0:0 directory\n/file ro\n/file 640 7:8 regular file = foo\n/socket rw\n/socket 755 0:0 socket\n\
            /char rw\n/char 600 0:0 character special file\n/block rw\n/block 660 0:0 block special file\n",
    },
];

/// A folder of the host's with one of each kind that a hostPath may be.
fn host() -> tempfile::TempDir {
    let dir = super::mounts::folder();
    let place = |name: &str| dir.path().join(name);
    let set = |name: &str, mode: u32, owner: u32| {
        use std::os::unix::fs::{PermissionsExt, chown};
        fs::set_permissions(place(name), fs::Permissions::from_mode(mode)).unwrap();
        chown(place(name), Some(owner), Some(owner + 1)).unwrap();
    };
    fs::create_dir(place("foo")).unwrap();
    fs::write(place("foo/file"), "foo").unwrap();
    set("foo", 0o750, 7);
    set("foo/file", 0o640, 7);
    drop(UnixListener::bind(place("socket")).unwrap());
    let device = |name: &str, kind, mode| {
        mknodat(CWD, place(name), kind, Mode::from_raw_mode(mode), makedev(1, 3)).unwrap();
    };
    device("char", FileType::CharacterDevice, 0o600);
    device("block", FileType::BlockDevice, 0o660);
    fs::set_permissions(place("socket"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::set_permissions(place("block"), std::os::unix::fs::PermissionsExt::from_mode(0o660)).unwrap();
    dir
}

#[test]
fn kubernetes_own_examples_of_volumes_are_seen_as_with_the_kubelet() {
    let host = host();
    let node = Node::start(Options::default());
    node.manifest("objects.yaml", OBJECTS);
    let path = host.path().to_str().unwrap();
    let name = |number: usize| format!("example-{number}");
    let jobs = EXAMPLES.iter().enumerate();
    let jobs: Vec<_> =
        jobs.map(|(number, example)| (name(number), example.manifest(&name(number), path))).collect();
    let processors = std::thread::available_parallelism().unwrap().to_string();
    for (example, output) in EXAMPLES.iter().zip(node.outputs_of(&jobs)) {
        assert_eq!(output, example.seen.replace("@CPUS", &processors), "{}", example.of);
    }
}
