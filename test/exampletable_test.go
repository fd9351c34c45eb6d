package test

// step is a command line that a shell runs. The steps stand in the order in
// which they run: what one leaves behind, a later one finds.
type step struct {
	line  string // exactly as the help shows it; for a step without example, what is run
	run   string // what is run instead, where placeholders alone do not do; with variables
	exit  int
	until string // it runs until told to end: a pattern in its output after which it is interrupted
	once  bool   // it changes something, and is not run again for its JSON
	extra bool   // no example: it shows the JSON of a command that changes something
}

// placeholders are what examples say for what only a real broker has.
var placeholders = [][2]string{
	{"abcdefghijklmnopqrstuvwxyz", "$NODE"},
	{"history explain 0192f0c1-2345-7abc-8def-0123456789ab", "history explain $DENIED"},
	{"0192f0c1-2345-7abc-8def-0123456789ab", "$RECORD"},
	{"4f1d…e0", "$WAITING"},
	{"https://broker.example.org:8443", "$URL"},
	{"https://127.0.0.1:8443", "$URL"},
	{"sha256:9f86…", "$PIN"},
	{"swtpm:/run/tpm.sock", "$ZONEAGENT_TPM"},
	{"/etc/zoneagent/anchor.pem", "anchor.pem"},
	{"ZONEBROKER_DIR=./lab ", ""},
	{"2026-11-20T12:00:00Z", "$NOW"},
	{"/run/zoneagent/", "./"},
	{"/run/checkout", "./checkout"},
	{"/var/lib/zonebroker", "./var"},
}

const (
	hostB  = " --state ./b --event-log $LOG_B"
	inZone = "zone payments"
)

// exampleSteps has a line for each example of each command: TestExamples fails for one
// that is missing, and for one that no command shows any more.
var exampleSteps = []step{
	{line: "zonebroker version -o json"},
	{line: "zonebroker deps"},
	{line: "zonebroker deps --yes --env host.env"},
	{line: "source <(zonebroker completion bash)"},
	{line: "zonebroker completion fish > ~/.config/fish/completions/zonebroker.fish"},
	{line: "zonebroker man ~/.local/share/man/man1"},
	{line: "zonebroker policy lint ./zones"},
	{line: "zonebroker policy lint ./zones -o json"},
	{line: "zonebroker policy lint ./broken -o json", extra: true, exit: 1},
	{line: "zonebroker trust import ./tpm-ca-certificates.pem", run: "zonebroker trust import svid.pem"},
	{line: "zonebroker trust import ./lab-ca --also-unlisted -o json", run: "zonebroker trust import anchor.pem --also-unlisted -o json"},
	{line: "zonebroker trust list"},
	{line: "zonebroker trust list --maker STM --state missing -o json"},
	{line: "zonebroker trust expiring"},
	{line: "zonebroker trust expiring --within 365d -o json", run: "zonebroker trust expiring --within 36500d -o json"},
	{line: "zonebroker trust refresh", run: "zonebroker trust refresh --maker NTZ --mirror http://127.0.0.1:1", exit: 1},
	{line: "zonebroker trust refresh --maker IFX --mirror https://mirror.example.org/tpm -o json", run: "zonebroker trust refresh --maker NTZ --mirror http://127.0.0.1:1 -o json", exit: 1},

	{line: "zonebroker init /var/lib/zonebroker --trust-domain example.org"},
	{line: "zonebroker init ./lab --trust-domain lab.test"},
	{line: "zonebroker init ./lab --trust-domain lab.test --listen 127.0.0.1:0", run: "zonebroker init ./lab2 --trust-domain lab.test --listen 127.0.0.1:0"},
	{line: "cp zones/* ./var/zones/ && cp zones/* ./lab/zones/", extra: true}, // as init says
	{line: "zonebroker serve --dir /var/lib/zonebroker", run: "zonebroker serve --dir ./var --listen 127.0.0.1:0", until: "^ready"},
	{line: "zonebroker serve --dir ./lab --database embedded:./lab/pg --listen 127.0.0.1:0", until: "^ready"},
	{
		line:  `zonebroker serve --dir /etc/zonebroker --database "postgres://zb_writer@db/zonebroker" --database-owner "postgres://admin@db/zonebroker"`,
		run:   `zonebroker serve --dir $REPLICA --listen 127.0.0.1:0 --database "$DSN" --database-owner "$OWNER"`,
		until: "^ready",
	},

	{line: "zonebroker health"},
	{line: "zonebroker health -o json"},
	{line: "zonebroker node list"},
	{line: "zonebroker node list -o json"},
	{line: "ZONEBROKER_DIR=./lab zonebroker node list -o json"},
	{line: "zonebroker node show abcdefghijklmnopqrstuvwxyz"},
	{line: "zonebroker node timeline abcdefghijklmnopqrstuvwxyz"},
	{line: "zonebroker node timeline abcdefghijklmnopqrstuvwxyz --since 24h -o json"},
	{line: "zonebroker node pending"},
	{line: "zonebroker node approve 4f1d…e0 --machine rack7-n1 --group rack-7", once: true},
	{line: "zonebroker node approve 4f1d…e0 --machine rack7-n1", run: "zonebroker node approve $WAITING_TOO --machine rack7-n2 -o json", once: true},
	{line: "zonebroker node admit 4f1d…e0 --machine rack7-n1 --group rack-7", run: "zonebroker node admit $UNSEEN --machine rack7-n3 --group rack-7", once: true},
	{line: "zonebroker node admit $UNSEEN_TOO --machine rack7-n4 -o json", extra: true},
	{line: "zonebroker node admit --ek-public ek.tpmt --machine i-0123456789abcdef0", run: "zonebroker node admit --ek-public ek.pem --machine i-0123456789abcdef0"},
	{line: `zonebroker node revoke 4f1d…e0 --note "board sold"`, run: `zonebroker node revoke $UNSEEN --note "board sold"`},
	{line: "zonebroker node revoke $UNSEEN_TOO -o json", extra: true},
	{line: `zonebroker node announce abcdefghijklmnopqrstuvwxyz --within 30m --note "kernel update"`, run: `zonebroker node announce $OTHER --within 30m --note "kernel update"`},
	{line: "zonebroker node announce $OTHER -o json", extra: true},
	{line: "zonebroker node disable abcdefghijklmnopqrstuvwxyz --note stolen", run: "zonebroker node disable $OTHER --note stolen", once: true},
	{line: `zonebroker node approve abcdefghijklmnopqrstuvwxyz --note "board replaced, ticket 4711"`, run: `zonebroker node approve $OTHER --note "board replaced, ticket 4711"`, once: true},
	{line: "zonebroker node disable $OTHER -o json", extra: true},
	{line: "zonebroker node approve $OTHER -o json", extra: true},

	{line: "zonebroker token create --machine rack7-n1 --ttl 1h", once: true},
	{line: "zonebroker token create --machine rack7-n1 --group rack-7", once: true},
	{line: "zonebroker token create --ttl 15m -o json"},

	{line: "zonebroker operator add alice --role operator -o alice.pem"},
	{line: "zonebroker operator add audit-2026 --role auditor --ttl 168h --address https://broker.example.org:8443 -o audit.pem"},
	{line: "zonebroker operator list"},
	{line: "zonebroker operator list --credential alice.pem -o json"},
	{line: `zonebroker operator revoke alice --note "left the team"`, once: true},
	{line: "zonebroker operator revoke audit-2026 -o json", extra: true},

	{line: "zonebroker history list --since 24h --reason policy.pcr_mismatch"},
	{line: "zonebroker history list --verdict deny --limit 1"},
	{line: "zonebroker history list --since 24h --verdict deny"},
	{line: "zonebroker history list --node abcdefghijklmnopqrstuvwxyz"},
	{line: "zonebroker history list --since 2026-11-01T00:00:00Z --until 2026-12-01T00:00:00Z --limit 5000 -o json"},
	{line: "zonebroker history list --limit 5000 -o json", extra: true},
	{line: "zonebroker history show 0192f0c1-2345-7abc-8def-0123456789ab"},
	{line: "zonebroker history explain 0192f0c1-2345-7abc-8def-0123456789ab"},
	{line: "zonebroker drift list --since 24h"},
	{line: "zonebroker drift list --kind pcr.4 --zone payments"},
	{line: "zonebroker drift list --node abcdefghijklmnopqrstuvwxyz --kind secure_boot"},
	{line: "zonebroker drift list --zone payments --until 2026-12-01T00:00:00Z --limit 5000 -o json"},
	{line: "zonebroker drift list -o json", extra: true},
	{line: "zonebroker history verify"},
	{line: "zonebroker history verify -o json"},
	{line: "zonebroker reference learn --node abcdefghijklmnopqrstuvwxyz -o zones/debian-12-6.1.yaml"},
	{line: "zonebroker reference learn --node abcdefghijklmnopqrstuvwxyz --boot 0192f0c1-2345-7abc-8def-0123456789ab --name debian-12-6.1 -o -"},
	{line: "zonebroker reference files /sys/kernel/security/ima/binary_runtime_measurements -o zones/debian-12-files.yaml", run: "zonebroker reference files list -o zones/debian-12-files.yaml"},
	{line: "zonebroker reference files ./binary_runtime_measurements --under /usr/bin --name debian-12-bin -o -", run: "zonebroker reference files list --under /usr/bin --name debian-12-bin -o -"},

	{line: "zoneagent fetch jwt --audience payments-api > token.jwt", extra: true, once: true},
	{line: "zonebroker claim inspect svid.pem -o json"},
	{line: "zonebroker claim inspect token.jwt"},
	{line: "zonebroker claim verify token.jwt --bundle bundle.json --audience payments-api"},
	{line: "zonebroker claim verify svid.pem --bundle bundle.json"},
	{line: "zonebroker claim verify svid.pem --bundle bundle.json --at 2026-11-20T12:00:00Z --grace always"},

	{line: "zonebroker history evidence 0192f0c1-2345-7abc-8def-0123456789ab -o evidence.json", once: true},
	{line: "zonebroker verify evidence.json"},
	{line: "zonebroker verify evidence.json -o json"},
	{line: "zonebroker inspect eventlog /sys/kernel/security/tpm0/binary_bios_measurements", run: "zonebroker inspect eventlog today.bin"},
	{line: "zonebroker inspect eventlog today.bin --pcrs pcrs.json"},
	{line: "zonebroker inspect eventlog today.bin --diff yesterday.bin -o json"},
	{line: "zonebroker inspect ima /sys/kernel/security/ima/binary_runtime_measurements", run: "zonebroker inspect ima list.bin"},
	{line: "zonebroker inspect ima list.bin -o json"},
	{line: "zonebroker inspect ekcert ek.crt"},
	{line: "zonebroker inspect ekcert ek.crt -o json"},
	{line: "zonebroker inspect quote quote.bin"},
	{line: "zonebroker inspect quote quote.bin -o json"},
	{line: "zonebroker inspect akpublic ak.pub"},
	{line: "zonebroker inspect akpublic ak.pub -o json"},
	{line: "zonebroker conformance ./vectors/tpm", exit: 3},
	{line: "zonebroker conformance ./vectors/tpm --overrides test/vectors/OVERRIDES.tsv -o json", run: "zonebroker conformance ./vectors/tpm --overrides meant.tsv -o json"},

	{line: "zonebroker demo", run: "zonebroker demo --yes --hosts 2", until: "Ctrl-C"},
	{line: "zonebroker demo --once --yes", run: "zonebroker demo --once --yes --hosts 2", once: true},
	{line: "zonebroker demo --hosts 3 --once --json"},

	{line: "zoneagent version -o json"},
	{line: "source <(zoneagent completion bash)"},
	{line: "zoneagent completion fish > ~/.config/fish/completions/zoneagent.fish"},
	{line: "zoneagent man ~/.local/share/man/man1"},
	{line: "zoneagent ek"},
	{line: "zoneagent ek --tpm swtpm:/run/tpm.sock -o json"},
	{line: "zoneagent verify-broker --server https://broker.example.org:8443 --anchor /etc/zoneagent/anchor.pem"},
	{line: "zoneagent verify-broker --server https://broker.example.org:8443 -o json", exit: 5},
	{
		line: "zoneagent attest --once --server https://broker.example.org:8443 --anchor /etc/zoneagent/anchor.pem",
		run:  "zoneagent attest --once --server $URL --anchor anchor.pem" + hostB,
	},
	{
		line: "zoneagent attest --once --server https://127.0.0.1:8443 --pin sha256:9f86… --tpm swtpm:/run/tpm.sock -o json",
		run:  "zoneagent attest --once --server $URL --pin $PIN --tpm $ZONEAGENT_TPM -o json" + hostB,
	},
	{
		line: "zoneagent attest --once --server https://broker.example.org:8443 --anchor anchor.pem --join-token /root/token --save /run/svid.pem",
		run:  "(umask 077; zonebroker token create --group rack-7 > token) && zoneagent attest --once --server $URL --anchor anchor.pem --join-token token --save ./saved.pem --tpm $TPM_D --state ./d --event-log $LOG_D",
		once: true,
	},
	{
		line:  "zoneagent run --server https://broker.example.org:8443 --anchor /etc/zoneagent/anchor.pem",
		run:   "zoneagent run --server $URL --anchor anchor.pem --workload-api ./b.sock" + hostB,
		until: inZone,
	},
	{
		line:  "zoneagent run --server https://broker.example.org:8443 --pin sha256:9f86… --workload-api /run/zoneagent/workload.sock",
		run:   "zoneagent run --server $URL --pin $PIN --workload-api ./b.sock" + hostB,
		until: inZone,
	},
	{
		line:  `zoneagent run --server https://127.0.0.1:8443 --anchor anchor.pem --tpm swtpm:/run/tpm.sock --state ./state --workload-api ""`,
		run:   `zoneagent run --server $URL --anchor anchor.pem --tpm $ZONEAGENT_TPM --workload-api ""` + hostB,
		until: inZone,
	},
	{line: "zoneagent status", run: "zoneagent status --state ./state"},
	{line: "zoneagent status --state ./state -o json"},
	{line: "zoneagent health", run: "zoneagent health --state ./state"},
	{line: "zoneagent health --level live", run: "zoneagent health --level live --state ./state"},
	{line: "zoneagent health --level attested -o json", run: "zoneagent health --level attested -o json --state ./state"},
	{line: "zoneagent fetch x509"},
	{line: "zoneagent fetch x509 -o json"},
	{line: "zoneagent fetch x509 --write /run/checkout"},
	{line: "zoneagent fetch x509 --write /run/checkout --socket /run/zoneagent/workload.sock"},
	{line: "zoneagent fetch jwt --audience payments-api"},
	{line: "zoneagent fetch jwt --audience payments-api --socket unix:/run/zoneagent/workload.sock -o json"},
	{line: "zoneagent fetch bundle"},
	{line: "zoneagent fetch bundle -o json"},
	{line: "zoneagent fetch bundle --write /run/checkout -o json"},
}
