//! What a pod has and may not have, as CEL expressions whose value is a list of texts, one for each fault.
//!
//! The items are those of [`surface`](super::super::surface), written in the same words.

use super::super::Freedom;
use super::super::irsa::{POD_IDENTITY_URI, shadowing_env};
use super::super::surface::{CONFINEMENT, READ_BY_CONTROLLERS, TOKEN_PATHS};
use super::cel::list;
use super::row::{HOOKS, INJECTED_ENV, SECRET_ENV};

/// Those of the texts that the rule's pods may not have.
pub(super) fn may(texts: &str) -> String {
    format!("({texts}).filter(i, !(i in variables.may))")
}

pub(super) fn free_or(freedom: Freedom, faults: &str) -> String {
    format!("('{freedom}' in variables.free ? [] :\n{faults})")
}

/// The fault of a field that has one right value.
pub(super) fn kept_one(key: &str, field: &str, is: &str) -> String {
    format!(
        "variables.row[?'{key}'].orValue([]).filter(w, {is} != w)\
         .map(w, '{field} is `' + {is} + '`' + (w == '' ? '' : ' where `' + w + '` belongs'))"
    )
}

/// The faults of a map that has to hold the row's pairs.
pub(super) fn kept(key: &str, field: &str, map: &str) -> String {
    format!(
        "variables.row[?'{key}'].orValue([]).map(w, [w.substring(0, w.indexOf('=')), w.substring(w.indexOf('=') + 1)])\
         .filter(w, {map}[?w[0]].orValue('') != w[1])\
         .map(w, '{field}[' + w[0] + '] is `' + {map}[?w[0]].orValue('') + '` where `' + w[1] + '` belongs')"
    )
}

pub(super) fn of_controllers(map: &str) -> String {
    let prefixes = list(&READ_BY_CONTROLLERS);
    format!(
        "variables.{map}.filter(k, {prefixes}.exists(p, k.startsWith(p)))\
         .map(k, 'metadata.{map}[' + k + '] is `' + variables.{map}[k] + '`')"
    )
}

/// `of` gives the texts of the container `c`, whose place it is given as an expression. Containers, then init containers.
fn each_container(of: impl Fn(&str) -> String) -> String {
    let each = |field: &str| {
        let at = format!("'spec.{field}[' + c.name + ']'");
        format!("object.spec.?{field}.orValue([]).map(c, ({}).join('; ')).filter(f, f != '')", of(&at))
    };
    format!("{}\n+ {}", each("containers"), each("initContainers"))
}

pub(super) fn of_host() -> String {
    let mut texts: Vec<String> = ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"]
        .map(|field| format!("(object.spec.?{field}.orValue(false) ? ['spec.{field} is `true`'] : [])"))
        .into();
    texts.extend(["nodeName", "runtimeClassName"].map(|field| {
        format!("(object.spec.?{field}.orValue('') != '' ? ['spec.{field} is `' + object.spec.{field} + '`'] : [])")
    }));
    for (field, value) in [("hostPath", "path"), ("flexVolume", "driver")] {
        texts.push(format!(
            "variables.volumes.filter(v, has(v.{field}))\
             .map(v, 'spec.volumes[' + v.name + '].{field} is `' + v.{field}.{value} + '`')"
        ));
    }
    let containers = each_container(|at| {
        // On the node's network the API server gives each port its host port.
        let ports = format!(
            "(object.spec.?hostNetwork.orValue(false) ? [] : c.?ports.orValue([]).filter(p, p.?hostPort.orValue(0) > 0)\
             .map(p, {at} + '.ports.hostPort is `' + string(p.hostPort) + '`'))"
        );
        may(&format!("{ports} + {}", mounts_of("variables.nodeVolumes", at)))
    });
    format!("{}\n+ {containers}", may(&texts.join("\n+ ")))
}

fn mounts_of(volumes: &str, at: &str) -> String {
    format!(
        "c.?volumeMounts.orValue([]).filter(m, m.name in {volumes})\
         .map(m, {at} + '.volumeMounts[' + m.name + '] is `' + m.mountPath + ' ' + m.?subPath.orValue('') + '`')"
    )
}

pub(super) fn of_privileges() -> String {
    let pod = security("object.spec", "'spec");
    let sysctls = "object.spec.?securityContext.?sysctls.orValue([])\
                   .map(s, 'spec.securityContext.sysctls[' + s.name + '] is `' + s.value + '`')";
    let prefixes = list(&CONFINEMENT);
    let annotations = format!(
        "variables.annotations\
         .filter(k, {prefixes}.exists(p, k.startsWith(p)) && variables.annotations[k] == 'unconfined')\
         .map(k, 'metadata.annotations[' + k + '] is `unconfined`')"
    );
    let containers = each_container(|at| {
        let own = format!(
            "(c.?securityContext.?privileged.orValue(false) ? [{at} + '.securityContext.privileged is `true`'] : [])\n\
             + c.?securityContext.?capabilities.?add.orValue([])\
             .map(x, {at} + '.securityContext.capabilities.add is `' + x + '`')\n\
             + (c.?securityContext.?procMount.orValue('Default') != 'Default' ? \
             [{at} + '.securityContext.procMount is `' + c.securityContext.procMount + '`'] : [])\n+ {}",
            security("c", &format!("{at} + '"))
        );
        format!("{} + {}", may(&own), sidecar(at))
    });
    format!("{}\n+ {containers}", may(&format!("{pod}\n+ {sysctls}\n+ {annotations}")))
}

/// Of a pod or of a container; `at` is an expression that a text is being written at the end of.
fn security(of: &str, at: &str) -> String {
    let mut texts = Vec::new();
    for profile in ["seccompProfile", "appArmorProfile"] {
        texts.push(format!(
            "({of}.?securityContext.?{profile}.?type.orValue('') == 'Unconfined' ? \
             [{at}.securityContext.{profile}.type is `Unconfined`'] : [])"
        ));
    }
    texts.push(format!(
        "({of}.?securityContext.?windowsOptions.?hostProcess.orValue(false) ? \
         [{at}.securityContext.windowsOptions.hostProcess is `true`'] : [])"
    ));
    for part in ["user", "role", "type", "level"] {
        texts.push(format!(
            "({of}.?securityContext.?seLinuxOptions.?{part}.orValue('') != '' ? \
             [{at}.securityContext.seLinuxOptions.{part} is `' + {of}.securityContext.seLinuxOptions.{part} + '`'] : [])"
        ));
    }
    texts.join("\n+ ")
}

/// A container of the template's that may do more than the worker has to run what it does there.
fn sidecar(at: &str) -> String {
    let mut program = format!(
        "([{at}] + [c.?image.orValue('')] + c.?command.orValue([]) + ['\\u001e'] + c.?args.orValue([]) + \
         ['\\u001e'] + [c.?workingDir.orValue('')] + c.?env.orValue([]).filter(e, !(e.name in {})).map(e, e.name) + \
         ['\\u001e', string(size(c.?envFrom.orValue([])))] + \
         c.?volumeMounts.orValue([]).filter(m, !(m.name in variables.injected)).map(m, m.name + ':' + m.mountPath)",
        list(&INJECTED_ENV)
    );
    for [hook, inner] in HOOKS {
        let inner = if inner.is_empty() { String::new() } else { format!(".?{inner}") };
        program.push_str(&format!(" + ['\\u001e'] + c.?{hook}{inner}.?exec.?command.orValue([])"));
    }
    program.push_str(").join('\\u001f')");
    let sidecars = "variables.row[?'sidecars'].orValue([])";
    format!(
        "({sidecars}.exists(s, s.startsWith({at} + '\\u001f')) && !({program} in {sidecars}) ? \
         [{at} + ' is set or changed'] : [])"
    )
}

pub(super) fn of_tokens() -> String {
    let volumes = format!(
        "variables.volumes.filter(v, v.name in variables.tokenVolumes).map(v, {}.join('; ')).filter(f, f != '')",
        may("v.projected.sources.filter(s, has(s.serviceAccountToken)).map(s, 'spec.volumes[' + v.name + \
             '].projected.serviceAccountToken is `' + s.serviceAccountToken.?audience.orValue('') + '`')")
    );
    // As the guard reads paths: without empty parts and dots, and one with `..` may lead anywhere.
    let parts = "m.mountPath.split('/').filter(x, x != '' && x != '.')";
    let below: Vec<String> = TOKEN_PATHS
        .iter()
        .map(|path| path.trim_start_matches('/'))
        .flat_map(|path| [path.to_owned(), path.trim_start_matches("var/").to_owned()])
        .map(|path| format!("({parts}.join('/') + '/').startsWith('{path}/')"))
        .collect();
    let containers = each_container(|at| {
        let at_token = format!(
            "c.?volumeMounts.orValue([]).filter(m, !(m.name in variables.injected) && ('..' in {parts} || {}))\
             .map(m, {at} + '.volumeMounts[' + m.name + '] is `' + m.mountPath + '`')",
            below.join(" || ")
        );
        may(&format!("{} + {at_token}", mounts_of("variables.tokenVolumes", at)))
    });
    format!("{volumes}\n+ {containers}")
}

/// A variable is told without its value, which may be a secret.
pub(super) fn of_aws_env() -> String {
    let plain = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/secrets/eks.amazonaws.com/serviceaccount/token"),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", POD_IDENTITY_URI),
        (
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token",
        ),
    ];
    let plain: Vec<String> = plain
        .iter()
        .map(|(name, value)| format!("(e.name == '{name}' && e.?value.orValue('') == '{value}')"))
        .collect();
    // A rule that names no role leaves it to the service account; the role has to trust that account anyway.
    let injected = format!(
        "!has(e.valueFrom) && ((e.name == 'AWS_ROLE_ARN' && (!('role' in variables.row) || \
         e.?value.orValue('') in variables.row['role'])) || {})",
        plain.join(" || ")
    );
    each_container(|at| {
        let name = format!("{at} + '.env[' + e.name + ']'");
        format!(
            "c.?env.orValue([]).filter(e, e.name in {} && !({injected}) && !(({name} + \
             (has(e.valueFrom) || e.name in {} ? '' : '=' + e.?value.orValue(''))) in variables.may))\
             .map(e, {name} + ' is set')",
            list(shadowing_env()),
            list(&SECRET_ENV)
        )
    })
}
