"""Bad stack files: what is wrong, the line that must be named, and a part of the sentence that must be said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .support import HEAD


@dataclass(frozen=True)
class Bad:
    """One bad file. `line` is None where the finding has no place in the file (`--var`)."""

    name: str
    text: str | bytes
    line: int | None
    says: str
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    environ: Mapping[str, str] = field(default_factory=dict[str, str])


def more(name: str, text: str, says: str, *, line: int = 5) -> Bad:
    """A good head with something wrong after it."""
    return Bad(name, HEAD + text + "\n", line, says)


def model(name: str, body: str, says: str) -> Bad:
    """A wrong model in line 3."""
    return Bad(name, HEAD.replace("id: tiny-random", body), 3, says)


def provider(name: str, body: str, says: str) -> Bad:
    """A wrong provider in line 4."""
    return Bad(name, HEAD.replace("{local: {}}", body), 4, says)


TOP = [
    Bad("empty", "", 1, "the file is empty"),
    Bad("only a comment", "# nothing\n", 1, "the file is empty"),
    Bad("a list", "- version: 1\n", 1, "a stack file is a mapping"),
    Bad("a word", "hello\n", 1, "a stack file is a mapping"),
    Bad("no version", HEAD.replace("version: 1\n", ""), 1, "version: is required"),
    Bad("no name", HEAD.replace("name: demo\n", ""), 1, "name: is required"),
    Bad("no model", HEAD.replace("model: {id: tiny-random}\n", ""), 1, "model: is required"),
    Bad("no provider", HEAD.replace("provider: {local: {}}\n", ""), 1, "provider: is required"),
    Bad("version 2", HEAD.replace("version: 1", "version: 2"), 1, "this llmdeploy reads version 1"),
    Bad("version true", HEAD.replace("version: 1", "version: true"), 1, "must be the whole number 1"),
    Bad("version 1.0", HEAD.replace("version: 1", "version: 1.0"), 1, "must be the whole number 1"),
    more("unknown key", "replica: 2", 'unknown key "replica" (did you mean "replicas"?)'),
    more("newer llmdeploy wanted", 'required_version: ">=0.2, <1"', "this is llmdeploy 0.1.0"),
    more("no version constraint", 'required_version: "~=0.1"', "must be a comma list of"),
    more("constraint as number", "required_version: 0.1", "must be text, not a number (put it in quotes)"),
    more("constraint unquoted", "required_version: >=0.1", "a value that starts with > or | needs quotes"),
    Bad("name with capitals", HEAD.replace("demo", "Demo"), 2, "must be a short name"),
    Bad("name too long", HEAD.replace("demo", "d" * 41), 2, "at most 40"),
    Bad("name is a number", HEAD.replace("demo", "42"), 2, "must be text, not a number (put it in quotes)"),
    Bad("name is on", HEAD.replace("demo", "on"), 2, 'on means true in YAML: write true, or "on" in quotes'),
    Bad("name is empty", HEAD.replace("demo", ""), 2, "must be text, not empty"),
    more("replicas as text", "replicas: two", "replicas: must be a whole number, not text"),
    more("replicas quoted", 'replicas: "2"', "must be a whole number, not text (remove the quotes)"),
    more("replicas zero", "replicas: 0", "must be at least 1"),
    more("replicas with a fraction", "replicas: 2.0", "must be a whole number"),
    more("replicas true", "replicas: true", "must be a whole number, not true or false"),
    more("replicas a list", "replicas: [2]", "must be a whole number, not a list"),
    more("region is Norway", "region: no", "no means false in YAML"),
    more("region with spaces", "region: eu central", "must be one word"),
]

MODEL = [
    Bad("model as text", HEAD.replace("{id: tiny-random}", "tiny-random"), 3, "must be a mapping, not text"),
    model("no id", "quant: fp8", "model.id: is required"),
    model("small k", "id: m, context: 32k", "write 32K (=32*1024)"),
    model("context in words", "id: m, context: lots", "for example 8192 or 32K"),
    model("context zero", "id: m, context: 0", "must be at least 1"),
    model("context 1e3", "id: m, context: 1e3", "write it out (1000, not 1e3)"),
    model("unknown quant", "id: m, quant: fp88", '"fp88" is not valid (did you mean "fp8"?)'),
    model("misspelt key", "id: m, concurency: 3", 'unknown key "concurency" (did you mean "concurrency"?)'),
    model("id is an address", "id: 'https://huggingface.co/a/b'", "write a/b"),
    model("id with three parts", "id: a/b/c", "a local path starts with /, ./, ../"),
    model("revision of a folder", "id: ./m, revision: main", "only a repository or a catalogue name has revisions"),
    model("revision as number", "id: m, revision: 1234567", "must be text, not a number (put it in quotes)"),
    model("revision octal", "id: m, revision: 0123", "leading 0 is octal"),
    model("nameless folder", "id: '/a b'", "set model.served_name"),
    model("served name with newline", 'id: m, served_name: "a\\nb"', "must be one word"),
]

PARTS = [
    more("unknown engine", "engine: vlm", '"vlm" is not valid (did you mean "vllm"?)'),
    more("engine a number", "engine: 5", "must be a mapping, not a number"),
    more("engine version as number", "engine: {version: 0.33}", "must be text, not a number (put it in quotes)"),
    more("engine runtime", "engine: {runtime: docker}", '"docker" is not valid (valid: auto, container, venv)'),
    more("engine arg of our own", "engine: {args: {api-key: x}}", "llmdeploy sets this flag of the engine itself (use keys)"),
    more("engine arg with dashes", "engine: {args: {--max-model-len: 1}}", "use model.context"),
    more("engine arg with underscores", "engine: {args: {enable_lora: true}}", "write enable-lora"),
    more("engine arg with newline", 'engine: {args: {seed: "a\\nb"}}', "must not hold control characters"),
    more("unknown profile", "compliance: [hippa]", 'compliance[0]: "hippa" is not valid (did you mean "hipaa"?)'),
    more("profile as text", "compliance: hipaa", "must be a list of profiles (write [hipaa])"),
    more("residency", "compliance: {residency: mars}", "valid: adequate, eea, eu"),
    more("attest yes", "compliance: {attest: {baa: yes}}", "yes means true in YAML"),
    more("attest unknown", "compliance: {attest: {dpaa: true}}", 'did you mean "dpa"?'),
    more("way out with its dots", "compliance: {..., attest: {baa: true}}", 'unknown key "..." (it stands for what is there'),
    more("ai act without role", "compliance: {attest: {ai_act: {high_risk: true, intended_purpose: x}}}", "role: is required"),
    more("gpu in capitals", "hardware: {gpu: L40S}", "small letters"),
    more("gpu none with count", "hardware: {gpu: none, count: 1}", "does not go together with gpu: none"),
    more("spot at home", "hardware: {market: spot}", 'hardware.market: the provider "local" rents no machines'),
    more("instance type at home", "hardware: {instance_type: g6.xlarge}", 'the provider "local" rents no machines'),
    more("encryption", "storage: {encryption: luks}", 'did you mean "luks2"?'),
    more("no encryption with unlock", "storage: {encryption: none, unlock: tpm2}", "storage.unlock: does not go together"),
    more("no encryption with key", 'storage: {encryption: none, key: "env:K"}', "storage.key: does not go together"),
    more("gocryptfs on a device", "storage: {encryption: gocryptfs, device: /dev/sdb}", "storage.device: does not go together"),
    more("storage key in clear", "storage: {key: hunter2}", "must be a reference to a secret"),
    more("erase as text", "storage: {erase: S3R1AL}", "must be a list, not text"),
    more("on_destroy", "storage: {on_destroy: wipe}", "valid: erase, keep"),
    more("port too large", "gateway: {port: 70000}", "must be at most 65535"),
    more("port zero", "gateway: {port: 0}", "must be at least 1"),
    more("port of base 60", "gateway: {port: 12:30}", "digits with colons"),
    more("port hexadecimal", "gateway: {port: 0x1F90}", "write this number in decimal"),
    more("domain with scheme", "gateway: {domain: 'https://x.example'}", "must be a host name"),
    more("cert without key", "gateway:\n  tls: {cert: 'file:c.pem'}", "gateway.tls.key: is required", line=6),
    more("sticky header", "gateway: {sticky: X Session}", "must be the name of a request header"),
    more("fallback in clear", "gateway: {fallback: {base_url: 'http://x.example', model: m, api_key: 'env:K'}}", "https://"),
    more("fallback key in clear", "gateway: {fallback: {base_url: 'https://x', model: m, api_key: sk-1}}", "must be a reference"),
    more("keys a mapping", "keys: {a: b}", "must be a list, not a mapping"),
    more("key without principal", "keys:\n  - name: a", "keys[0].principal: is required", line=6),
    more("key names twice", "keys:\n  - {name: a, principal: x}\n  - {name: a, principal: y}", 'a key named "a"', line=7),
    more("secret recipient", "keys: [{name: a, principal: x, recipient: AGE-SECRET-KEY-1}]", "must be a public key"),
    more("rate zero", "keys: [{name: a, principal: x, requests_per_minute: 0}]", "must be at least 1"),
    more("retention zero", "logs: {retention_days: 0}", "must be at least 1"),
    more("negative price", "prices: {gpu-hour: -1}", "must be at least 0"),
    more("price infinite", "prices: {gpu-hour: .inf}", "infinity and NaN are not allowed"),
    more("no state", "state: {}", "must hold exactly one of local and s3"),
    more("two states", "state: {local: {}, s3: {bucket: abc, region: x}}", "must hold exactly one of local and s3"),
    more("state without region", "state: {s3: {bucket: abc}}", "state.s3.region: is required"),
    more("state bucket", "state: {s3: {bucket: A, region: x}}", "must be the name of a bucket"),
    more("logs empty", "logs:", "must be a mapping, not empty"),
]

PROVIDER = [
    provider("no provider named", "{}", "must hold exactly one provider, not 0"),
    provider("two providers", "{local: {}, rack: {}}", "must hold exactly one provider, not 2"),
    provider("provider as text", "local", "write {local: {}}"),
    provider("unknown provider", "{loca: {}}", 'unknown provider "loca" (did you mean "local"?)'),
    provider("provider with empty body", "{local: }", "write local: {}"),
    provider("local with a key", "{local: {path: /x}}", 'provider.local: unknown key "path"'),
    provider("rack misspelt", "{rack: {machines: [{adress: x}]}}", 'unknown key "adress" (did you mean "address"?)'),
    provider("rack without address", "{rack: {machines: [{}]}}", "provider.rack.machines[0].address: is required"),
    provider("rack without machines", "{rack: {machines: []}}", "must have at least 1 entries"),
    provider("rack union", "{rack: {machines: [{address: x, gpus: []}]}}", "must be a whole number or text, not a list"),
    provider("rack secret", "{rack: {machines: [{address: x, password: hunter2}]}}", "must be a reference to a secret"),
    provider("rack pattern", "{rack: {machines: [{address: x}], label: '1'}}", "does not have the right form"),
]

VARIABLES = [
    more("undefined variable", "variables: {replicas: 2}\nreplicas: ${var.replica}", 'did you mean "replicas"?', line=6),
    more("no variables at all", "replicas: ${var.n}", "declare it under variables:"),
    more("variable of wrong type", "variables: {n: two}\nreplicas: ${var.n}", "must be a whole number, not text", line=6),
    more("missing environment", "region: ${env:REGION}", "the environment variable REGION is not set"),
    more("unknown interpolation", "region: ${region}", "write ${var.name} or ${env:NAME}"),
    more("open interpolation", "region: x-${var.a", "is not understood"),
    more("variable in braces", "hardware: {count: ${var.n}}", 'write "${var.name}" in quotes'),
    more("variable of a variable", "variables: {a: 1, b: '${var.a}'}", "cannot be made of another variable"),
    more("variable is a list", "variables: {a: [1]}", "a variable is one value"),
    more("variables a list", "variables: [a]", "must be a mapping"),
    more("variable name", "variables: {a-b: 1}", "must be the name of a variable"),
    Bad(
        "value instead of reference", HEAD + "storage: {key: '${env:KEY}'}\n", 5, "write env:KEY, without ${ }",
        environ={"KEY": "canary"},
    ),
    Bad("port from the environment", HEAD + "gateway: {port: '${env:P}'}\n", 5, "use a variable and --var", environ={"P": "1"}),
    Bad("unknown --var", HEAD + "variables: {alpha: 1}\n", None, 'did you mean "alpha"?', variables={"alhpa": "1"}),
    Bad("--var without declaration", HEAD, None, "it declares none", variables={"a": "1"}),
    Bad("--var yes", HEAD + "variables: {a: b}\n", None, "yes means true", variables={"a": "yes"}),
    Bad("--var list", HEAD + "variables: {a: b}\n", None, "a variable is one value", variables={"a": "[1]"}),
    Bad("--var open quote", HEAD + "variables: {a: b}\n", None, "the quotes do not match", variables={"a": '"1'}),
    Bad("--var control", HEAD + "variables: {a: b}\n", None, "U+001B", variables={"a": "\x1b[1m"}),
]  # fmt: skip

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)

YAML = [
    more("duplicate key", "replicas: 1\nregion: x\nreplicas: 2", 'the key "replicas" stands twice, first in line 5', line=7),
    Bad("duplicate inner key", HEAD.replace("id: tiny-random", "id: a, id: b"), 3, 'the key "id" stands twice, first in line 3'),
    Bad("bomb", BOMB, 1, "anchors (&name) are not allowed"),
    Bad("bomb's aliases", BOMB, 2, "aliases (*name) are not allowed"),
    more("alias as value", "region: *eu", "aliases (*name) are not allowed"),
    more("merge key", "logs: {<<: {retention_days: 1}}", "merge keys (<<) are not allowed"),
    more("python tag", "region: !!python/object/apply:os.system [id]", "tags (!name) are not allowed"),
    more("local tag", "region: !secret x", "tags (!name) are not allowed"),
    more("tagged key", "!!str replicas: 2", "tags (!name) are not allowed"),
    more("string tag", "region: !!str 12", "tags (!name) are not allowed"),
    Bad("directive", "%YAML 1.1\n---\n" + HEAD, 1, "lines that start with % are not allowed"),
    Bad("two documents", HEAD + "---\n" + HEAD, 5, "a second document starts here"),
    more("key is a number", "1: x", "a key must be text"),
    more("key is on", "on: x", 'on means true in YAML: write true, or "on" in quotes'),
    more("key is empty", "~: x", "a key must be text"),
    more("key is a list", "[a, b]: x", "a key must be text"),
    more("key is a mapping", "? {a: b}\n: x", "a key must be text"),
    more("tab indents", "logs:\n\tretention_days: 3", "a tab indents this line", line=6),
    more("tab after spaces", "gateway:\n  tls:\n  \tcert: x", "a tab indents this line", line=7),
    more("bad indentation", "logs:\n    a: 1\n  b: 2", "check the indentation", line=7),
    more("two colons", "region: a: b", 'a value that holds ": " needs quotes'),
    more("open quote", 'region: "eu\nreplicas: 2', "this quote is never closed"),
    more("open bracket", "compliance: [gdpr\nreplicas: 2", "a comma or a closing bracket is missing", line=6),
    more("at sign", "region: @home", "put the value in quotes"),
    more("bad escape", 'region: "a\\qb"', "in double quotes write"),
    more("underscores", "replicas: 1_0", "write this number without _"),
    more("a number too long", f"replicas: {'9' * 5000}", "at most 18 digits"),
    more("too deep", f"engine: {'[' * 40}{']' * 40}", "nested deeper than 32 levels"),
    more("far too deep", "engine: " + "[" * 200_000, "nested deeper than 32 levels"),
    more("too many values", "prices: [" + "1," * 60_000 + "]", "more than 50000 values"),
]

BYTES = [
    Bad("byte order mark", b"\xef\xbb\xbf" + HEAD.encode(), 1, "byte order mark"),
    Bad("UTF-16", HEAD.encode("utf-16"), 1, "UTF-16"),
    Bad("Latin-1", HEAD.encode() + "region: Köln\n".encode("latin-1"), 5, "byte 0xf6 is not UTF-8"),
    Bad("NUL", HEAD.encode() + b"region: a\x00b\n", 5, "U+0000"),
    Bad("escape", HEAD.encode() + b"# \x1b[31m\n", 5, "U+001B"),
    Bad("delete", HEAD.encode() + b"region: a\x7f\n", 5, "U+007F"),
    Bad("right to left", HEAD + "region: a\u202eb\n", 5, "RIGHT-TO-LEFT OVERRIDE"),
    Bad("line separator", HEAD + "region: a\u2028b\n", 5, "LINE SEPARATOR"),
    Bad("binary", bytes(range(256)), 3, "byte 0x80 is not UTF-8"),
]

BAD_FILES = [*TOP, *MODEL, *PARTS, *PROVIDER, *VARIABLES, *YAML, *BYTES]
