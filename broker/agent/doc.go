// Package agent is what runs on a host: it proves the host's state to a broker
// with the host's TPM, or what it is by documents of its platform, keeps what it
// earned, and serves the zone's workloads. The keys of the host stay in its TPM,
// those of workloads in memory; the state folder of a host with a TPM holds no
// secret that would let another host pose as this one. Without a TPM the keys lie
// in the folder, and as much as documents do not carry the challenge, who copies
// it can pose as the host.
//
// It trusts the TPM of the host, the trust anchor that it was given, and the
// broker that this anchor vouches for. It never trusts on first use: the first
// connection is authenticated like every later one, and EK and AK, which name
// the machine, are sent only after that.
//
// An Agent renews at half of max_age. What it does after a failure depends on
// who speaks. A denial, which only an authenticated broker can give, withdraws
// everything at once, on the disk too. Anything else is an outage, which anybody
// between host and broker can make: what was earned is served until its own end,
// and its age is told. Attest does it once.
package agent
