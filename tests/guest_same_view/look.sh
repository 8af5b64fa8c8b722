# What a container can see of itself. Not cpu.weight: crun 1.8 has another formula for the shares of the `Spec`.
echo "== status"
grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp|Umask):' /proc/self/status
echo "== limits"
cat /proc/self/limits
echo "== environment"
env | sort
echo "== place"
pwd; hostname; cat /proc/self/oom_score_adj; ls -A /sys/class/net
echo "== namespaces"
for kind in cgroup ipc mnt net pid uts user time; do
  if [ -e /proc/self/ns/$kind ]; then echo $kind; fi
done
cat /proc/self/cgroup /proc/self/uid_map
echo "== devices"
for file in /dev/*; do stat -c '%N %F %a %u %g %t,%T' "$file"; done
echo "== cgroup"
cd /sys/fs/cgroup; grep . memory.max memory.low memory.min memory.high cpu.max pids.max; cd /
echo "== sysctls"
cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced
echo "== profile"
mkdir /made 2>&1 && echo made
echo "== mounts"
cat /proc/self/mountinfo
echo "== end"
