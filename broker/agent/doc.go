// Package agent is what runs on a host: it proves the host's state to a broker
// with the host's TPM and keeps what it earned. This first form attests once
// and returns; the keys stay in the TPM, the state folder holds no secret that
// would let another host pose as this one.
//
// It trusts the TPM of the host, the trust anchor that it was given, and the
// broker that this anchor vouches for. It never trusts on first use: the first
// connection is authenticated like every later one, and EK and AK, which name
// the machine, are sent only after that.
package agent
