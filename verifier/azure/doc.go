// Package azure judges what machines of Microsoft Azure show of themselves: the
// attested document of the instance metadata service, tokens of managed
// identities, tokens of Microsoft Azure Attestation, and reports of confidential
// machines with the quote of their vTPM.
//
// Nothing that evidence names is fetched, and nothing that an agent says beside
// signed bytes (tenant, location, resource group) is a fact.
package azure
