// Package k8s verifies projected service-account tokens of Kubernetes pods: offline
// under the configured keys of each cluster, and with what the cluster's own
// TokenReview said, where the broker asked it.
//
// It trusts the configured key sets, and that a kubelet hands a pod's token only
// to that pod. Package jwt holds the rules for the tokens themselves.
package k8s
