package documenttest

import "time"

// Issuers, as the platforms name them.
const (
	GoogleIssuer       = "https://accounts.google.com"
	ConfidentialIssuer = "https://confidentialcomputing.googleapis.com"
	EntraIssuer        = "https://sts.windows.net/11111111-1111-1111-1111-111111111111/"
	EntraTenant        = "11111111-1111-1111-1111-111111111111"
	MAAIssuer          = "https://sharedweu.weu.attest.azure.net"
	ClusterIssuer      = "https://oidc.cluster.test"
)

// GCEClaims are those of an instance identity token in full format, issued at a
// time for an hour.
func GCEClaims(audience string, issued time.Time) Claims {
	return Claims{
		"iss": GoogleIssuer, "aud": audience, "azp": "106652250211606546223", "sub": "106652250211606546223",
		"email": "847250625900-compute@developer.gserviceaccount.com", "email_verified": true,
		"iat": issued.Unix(), "exp": issued.Add(time.Hour).Unix(),
		"google": Claims{"compute_engine": GCEInstance()},
	}
}

// GCEInstance is the instance in GCEClaims.
func GCEInstance() Claims {
	return Claims{
		"project_id": "proj-a", "project_number": 847250625900, "zone": "us-central1-c", "instance_id": "3015378661047007286",
		"instance_name": "vm-1", "instance_creation_timestamp": 1795000000, "instance_confidentiality": 1,
		"license_id": []string{"5926592092274602096"},
	}
}

// ConfidentialClaims are those of a Confidential Space token with one nonce.
func ConfidentialClaims(audience, nonce string, issued time.Time) Claims {
	return Claims{
		"iss": ConfidentialIssuer, "aud": audience, "sub": "https://www.googleapis.com/compute/v1/projects/proj-a/zones/us-central1-c/instances/vm-1",
		"iat": issued.Unix(), "nbf": issued.Unix(), "exp": issued.Add(time.Hour).Unix(), "eat_nonce": nonce,
		"secboot": true, "oemid": 11129, "hwmodel": "GCP_AMD_SEV", "swname": "CONFIDENTIAL_SPACE", "swversion": []string{"250800"},
		"dbgstat": "disabled-since-boot", "google_service_accounts": []string{"runner@proj-a.iam.gserviceaccount.com"},
		"submods": Claims{
			"confidential_space": Claims{"support_attributes": []string{"LATEST", "STABLE", "USABLE"}},
			"container": Claims{
				"image_reference": "us-docker.pkg.dev/proj-a/repo/app:1",
				"image_digest":    "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
				"image_id":        "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
				"restart_policy":  "Never", "args": []string{"/app"}, "env": Claims{"HOME": "/"},
			},
			"gce": Claims{"project_id": "proj-a", "project_number": "847250625900", "zone": "us-central1-c", "instance_id": "3015378661047007286", "instance_name": "vm-1"},
		},
	}
}

// MSIClaims are those of a token for a system-assigned identity of a virtual
// machine, in the form of version 1.
func MSIClaims(audience string, issued time.Time) Claims {
	const identity = "22222222-2222-2222-2222-222222222222"
	return Claims{
		"iss": EntraIssuer, "aud": audience, "tid": EntraTenant, "oid": identity, "sub": identity, "idtyp": "app",
		"appid": "33333333-3333-3333-3333-333333333333", "idp": EntraIssuer, "ver": "1.0",
		"iat": issued.Unix(), "nbf": issued.Unix(), "exp": issued.Add(24 * time.Hour).Unix(),
		"xms_mirid": "/subscriptions/44444444-4444-4444-4444-444444444444/resourcegroups/rg/providers/Microsoft.Compute/virtualMachines/vm1",
	}
}

// MAAClaims are those of a token for a confidential virtual machine; ak is the
// JWK of its vTPM's attestation key, nil for none.
func MAAClaims(nonce string, ak Claims, issued time.Time) Claims {
	keys := []Claims{}
	if ak != nil {
		keys = append(keys, ak.With(Claims{"kid": "HCLAkPub", "use": nil, "key_ops": []string{"sign"}}))
	}
	return Claims{
		"iss": MAAIssuer, "iat": issued.Unix(), "nbf": issued.Unix(), "exp": issued.Add(8 * time.Hour).Unix(), "jti": "3bf48db1",
		"secureboot": true, "x-ms-attestation-type": "azurevm", "x-ms-azurevm-vmid": "70F5CE9A-2BDC-4B6B-8401-E9B964D3AEB7",
		"x-ms-azurevm-debuggersdisabled": true, "x-ms-azurevm-kerneldebug-enabled": false, "x-ms-azurevm-bootdebug-enabled": false,
		"x-ms-azurevm-hypervisordebug-enabled": false, "x-ms-azurevm-testsigning-enabled": false, "x-ms-azurevm-ostype": "Linux",
		"x-ms-policy-hash": "wm9mHlvTU82e8UqoOy1Yj1FBRSNkfe99-69IYDq9eWs", "x-ms-ver": "1.0",
		"x-ms-runtime": Claims{"client-payload": Claims{"nonce": nonce}, "keys": []Claims{}},
		"x-ms-isolation-tee": Claims{
			"x-ms-attestation-type": "sevsnpvm", "x-ms-compliance-status": "azure-compliant-cvm",
			"x-ms-runtime": Claims{
				"keys":             keys,
				"vm-configuration": Claims{"secure-boot": true, "tpm-enabled": true, "vmUniqueId": "70F5CE9A-2BDC-4B6B-8401-E9B964D3AEB7"},
			},
			"x-ms-sevsnpvm-is-debuggable": false, "x-ms-sevsnpvm-vmpl": 0, "x-ms-sevsnpvm-microcode-svn": 115,
			"x-ms-sevsnpvm-bootloader-svn": 3, "x-ms-sevsnpvm-snpfw-svn": 8, "x-ms-sevsnpvm-tee-svn": 0, "x-ms-sevsnpvm-guestsvn": 4,
			"x-ms-sevsnpvm-launchmeasurement": "8962535933f5c4b429ec41d6550c187c163aa76f3be1f8d750a272a9d8995023e8286a2e431a96c36087ac46d4188676",
		},
	}
}

// PSATClaims are those of a projected service-account token of a pod.
func PSATClaims(audience string, issued time.Time) Claims {
	return Claims{
		"iss": ClusterIssuer, "aud": []string{audience}, "sub": "system:serviceaccount:payments:agent", "jti": "b3e2",
		"iat": issued.Unix(), "nbf": issued.Unix(), "exp": issued.Add(10 * time.Minute).Unix(),
		"kubernetes.io": Claims{
			"namespace":      "payments",
			"serviceaccount": Claims{"name": "agent", "uid": "6808b4c7-0b53-45f4-83f7-e8937756eeae"},
			"pod":            Claims{"name": "agent-x7", "uid": "f9023702-f4ed-4ed9-ab40-bc69142aa9a6"},
			"node":           Claims{"name": "worker-1", "uid": "c0ffee00-f4ed-4ed9-ab40-bc69142aa9a6"},
		},
	}
}

// EARClaims are those of an attestation result with one affirming submodule, for
// five minutes.
func EARClaims(nonce string, issued time.Time) Claims {
	return Claims{
		"eat_profile": "tag:github.com,2023:veraison/ear", "iat": issued.Unix(), "exp": issued.Add(5 * time.Minute).Unix(), "eat_nonce": nonce,
		"ear.verifier-id": Claims{"developer": "Acme Inc.", "build": "v1.0.0"},
		"submods":         Claims{"cpu0": EARSubmodule("affirming")},
	}
}

// EARSubmodule is one of EARClaims with a status, by name or number.
func EARSubmodule(status any) Claims {
	return Claims{
		"ear.status": status, "ear.appraisal-policy-id": "https://veraison.example/policy/1/60a0068d",
		"ear.trustworthiness-vector": Claims{"instance-identity": 2, "configuration": 2, "executables": 3, "hardware": 2},
	}
}
