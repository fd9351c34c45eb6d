package build

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
)

// Machine describes one boot of one host. Fields left empty take the values of a
// common machine, so that two machines differ only where they are told to.
type Machine struct {
	// Firmware is the version string of the firmware; PCR 0 depends on it.
	// Default "Zonebroker Virtual Firmware v1".
	Firmware string
	// Disk names the boot disk; PCR 1 (boot options) and PCR 5 (partition table)
	// depend on it. Hosts installed from one image share it. Default "disk".
	Disk string
	// SecureBootOff boots the same images without Secure Boot; PCR 7 tells.
	SecureBootOff bool
	// KernelVersion stands in paths and in the command line; PCR 8 depends on it.
	// Default "6.1.0-28-amd64".
	KernelVersion string
	// Kernel and Initrd are the contents of the files; PCR 9 has the digests of
	// both, PCR 4 that of the kernel. Defaults derive from KernelVersion.
	Kernel, Initrd []byte
	// CommandLine is what follows the kernel's path; PCR 8 depends on it. Default
	// "root=/dev/vda1 ro quiet".
	CommandLine string
	// UKI boots a unified kernel image from systemd-boot instead of GRUB: PCR 11 has
	// its sections, PCR 12 and 13 what systemd-stub packs for the initrd.
	UKI bool
	// SystemdBoot boots the kernel by an entry of systemd-boot: PCR 12 has the
	// command line.
	SystemdBoot bool
}

func (m Machine) withDefaults() Machine {
	set := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	set(&m.Firmware, "Zonebroker Virtual Firmware v1")
	set(&m.Disk, "disk")
	set(&m.KernelVersion, "6.1.0-28-amd64")
	set(&m.CommandLine, "root=/dev/vda1 ro quiet")
	if m.Kernel == nil {
		m.Kernel = filler("kernel "+m.KernelVersion, 4096)
	}
	if m.Initrd == nil {
		m.Initrd = filler("initrd "+m.KernelVersion, 4096)
	}
	return m
}

// Log returns the log of the boot: about 70 records and 30 kB, with events in
// PCR 0, 1, 4, 5, 7, 8, 9 and 14 and a separator in each of PCR 0 to 7.
func (m Machine) Log() *Builder {
	m = m.withDefaults()
	b := New()
	m.firmware(b)
	m.bootManager(b)
	switch {
	case m.UKI:
		m.unified(b)
	case m.SystemdBoot:
		m.typeOne(b)
	default:
		m.shim(b)
		m.grub(b)
	}
	b.Action(5, "Exit Boot Services Invocation")
	b.Action(5, "Exit Boot Services Returned with Success")
	return b
}

// firmware: what the platform measures before it looks for something to boot.
func (m Machine) firmware(b *Builder) {
	b.FirmwareVersion(m.Firmware)
	b.FirmwareBlob(0xff000000, filler("firmware volume "+m.Firmware, 4096))
	b.Measure(0, eventlog.TypeNonhostInfo, append([]byte("Zonebroker host\x00"), make([]byte, 16)...))

	state := byte(1)
	if m.SecureBootOff {
		state = 0
	}
	b.Variable(GlobalVariable, "SecureBoot", []byte{state})
	b.Variable(GlobalVariable, "PK", Certificates("Platform Key"))
	b.Variable(GlobalVariable, "KEK", Certificates("Key Exchange Key", "Distribution KEK"))
	b.Variable(ImageSecurity, "db", Certificates(signerCA, "OS Production CA"))
	b.Variable(ImageSecurity, "dbx", Hashes("revoked image", 270))
	b.Separator(7)
}

// bootManager: boot options, the separators of the others, and the disk.
func (m Machine) bootManager(b *Builder) {
	b.BootVariable("BootOrder", []byte{1, 0, 0, 0})
	b.BootVariable("Boot0000", filler("boot option shell", 110))
	b.BootVariable("Boot0001", filler("boot option "+m.Disk, 144))
	b.Action(4, "Calling EFI Application from Boot Option")
	b.Separator(0, 1, 2, 3, 4, 5, 6)
	b.GPT(partitions(m.Disk))
}

// shim: with Secure Boot each image is preceded by the authority that allowed
// it.
func (m Machine) shim(b *Builder) {
	if !m.SecureBootOff {
		b.Authority(ImageSecurity, "db", signature(signerCA))
	}
	b.Application(`\EFI\debian\shimx64.efi`, filler("shim 15.8", 4096))
	b.MOK("MokList", Certificates("Machine Owner Key"))
	b.MOK("MokListX", Hashes("revoked module", 2))
	b.Authority(ShimLock, "SbatLevel", []byte("sbat,1,2023012900\nshim,2\ngrub,3\n"))
	b.MOK("MokListTrusted", []byte{1})
	if !m.SecureBootOff {
		b.Authority(ShimLock, "Shim", signature("Distribution Secure Boot CA"))
	}
	b.Application(`\EFI\debian\grubx64.efi`, filler("grub 2.06", 4096))
}

// grub: every command in PCR 8, every file in PCR 9; the kernel is verified and
// measured by shim once more, into PCR 4.
func (m Machine) grub(b *Builder) {
	prefix := "(hd0,gpt1)/boot/grub/"
	b.File("(hd0,gpt15)/EFI/debian/grub.cfg", filler("grub stub", 120))
	b.GRUBCommand("search.fs_uuid 94f07b36-6512-4b02-849a-286e93dcebf7 root")
	b.GRUBCommand("set prefix=(hd0,gpt1)/boot/grub")
	for _, name := range [...]string{"command.lst", "fs.lst", "crypto.lst", "terminal.lst"} {
		b.File(prefix+"x86_64-efi/"+name, filler(name, 900))
	}
	b.GRUBCommand("configfile " + prefix + "grub.cfg")
	b.File(prefix+"grub.cfg", filler("grub.cfg "+m.KernelVersion+m.CommandLine, 6000))
	for _, line := range grubScript {
		b.GRUBCommand(line)
	}
	kernel, initrd := "/boot/vmlinuz-"+m.KernelVersion, "/boot/initrd.img-"+m.KernelVersion
	b.GRUBCommand("menuentry Debian GNU/Linux --class debian --class gnu-linux --id gnulinux-simple { linux " + kernel + " " + m.CommandLine + " }")
	b.GRUBCommand("setparams Debian GNU/Linux")
	b.GRUBCommand("linux " + kernel + " " + m.CommandLine)
	b.File(kernel, m.Kernel)
	b.Application(kernel, m.Kernel)
	b.CommandLine(kernel + " " + m.CommandLine)
	b.GRUBCommand("initrd " + initrd)
	b.File(initrd, m.Initrd)
}

const signerCA = "UEFI Signing CA"

var grubScript = [...]string{
	"[ -s (hd0,gpt1)/boot/grub/grubenv ]", "set have_grubenv=true", "load_env", "[  = 2 ]", "[  ]",
	"set default=0", "[ xy = xy ]", "menuentry_id_option=--id", "export menuentry_id_option", "[  ]",
	"terminal_input console", "terminal_output console", "set timeout_style=hidden", "set timeout=0",
	"set menu_color_normal=white/black", "set menu_color_highlight=black/light-gray", "insmod gzio",
	"insmod part_gpt", "insmod ext2", "search --no-floppy --fs-uuid --set=root 94f07b36-6512-4b02-849a-286e93dcebf7",
	"echo Loading Linux ...",
}

// filler returns size bytes that depend on nothing but the name: SHA-256 in
// counter mode. It stands for content whose meaning does not matter.
func filler(name string, size int) []byte {
	out := make([]byte, 0, size+sha256.Size)
	for i := uint32(0); len(out) < size; i++ {
		h := sha256.Sum256(binary.BigEndian.AppendUint32([]byte(name+"\x00"), i))
		out = append(out, h[:]...)
	}
	return out[:size]
}

// signature is EFI_SIGNATURE_DATA with a stand-in for a certificate of that name.
func signature(name string) []byte {
	return append(owner[:len(owner):len(owner)], filler("certificate "+name, 1500)...)
}

// Certificates returns one EFI_SIGNATURE_LIST a name.
func Certificates(names ...string) []byte {
	var out []byte
	for _, name := range names {
		out = append(out, SignatureList(certX509, nil, signature(name))...)
	}
	return out
}

// Hashes returns one EFI_SIGNATURE_LIST of n image hashes.
func Hashes(name string, n int) []byte {
	all := filler("hashes "+name, n*sha256.Size)
	entries := make([][]byte, 0, n)
	for i := range n {
		entries = append(entries, append(owner[:len(owner):len(owner)], all[i*sha256.Size:(i+1)*sha256.Size]...))
	}
	return SignatureList(certSHA256, nil, entries...)
}

// SignatureList returns EFI_SIGNATURE_LIST. All entries have the length of the
// first, owner included. No registered type has a header; one is accepted here
// to forge lists with.
func SignatureList(typ GUID, header []byte, entries ...[]byte) []byte {
	le := binary.LittleEndian
	size := 0
	if len(entries) > 0 {
		size = len(entries[0])
	}
	out := append([]byte(nil), typ[:]...)
	out = le.AppendUint32(out, uint32(28+len(header)+len(entries)*size))
	out = le.AppendUint32(out, uint32(len(header)))
	out = le.AppendUint32(out, uint32(size))
	out = append(out, header...)
	for _, e := range entries {
		out = append(out, e...)
	}
	return out
}

// partitions is UEFI_GPT_DATA with three entries.
func partitions(disk string) []byte {
	out := append([]byte("EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00"), filler("gpt "+disk, 76)...)
	out = binary.LittleEndian.AppendUint64(out, 3)
	for _, name := range [...]string{"root", "bios", "esp"} {
		out = append(out, filler("partition "+name+" "+disk, 128)...)
	}
	return out
}
