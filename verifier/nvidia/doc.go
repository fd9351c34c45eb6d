// Package nvidia verifies what NVIDIA GPUs and switches in confidential computing
// mode say of themselves, in two forms: the devices' own SPDM reports, judged here
// against reference measurements that an operator configures, and the detached EAT
// of NVIDIA's Remote Attestation Service, which judged them.
//
// A GPU knows nothing of the machine it is in: what ties it to a guest is that the
// guest, whose own report is verified, asked it with a nonce made from the same
// challenge. So the evidence is a companion of a CPU's and names no node.
//
// Sources: DMTF DSP0274 1.1 (GET_MEASUREMENTS, 10.11), NVIDIA's attestation SDK
// for the opaque data, RFC 9711 for the EAT. Nothing is fetched, there is no
// clock.
package nvidia
