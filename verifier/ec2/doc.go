// Package ec2 judges what an instance of Amazon EC2 shows of itself: the instance
// identity document in its one form that holds (PKCS7 with SHA-256 under an
// RSA-2048 key, which is the region's own), and the answer of AWS to a
// GetCallerIdentity request that the instance signed.
//
// The document carries no nonce: it is the same for the life of the instance,
// and whoever read it once (another process, a request forged through a web
// service, a former user of the machine) has it for ever. It is a bearer
// document, class C, and proves a machine only together with a key that it was
// first used with, or another document.
//
// Sources: EC2 User Guide, "Instance identity documents" and "AWS public
// certificates for instance identity document signatures"; STS API Reference,
// GetCallerIdentity; IAM User Guide, "AWS Signature Version 4".
package ec2
