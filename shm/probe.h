/*
 * probe.h - static tracepoints (USDT) for bpftrace, perf and SystemTap: provider "shale", listed in shale-probes(7).
 *
 * With <sys/sdt.h> (systemtap-sdt-dev) at build time a probe is one nop and a note in the binary; without it, nothing at all. Arguments are evaluated either way
 * only as far as they have to be: pass plain variables and cheap calls. The names have two underscores where the man page and tools write a hyphen.
 */
#ifndef SHALE_SHM_PROBE_H
#define SHALE_SHM_PROBE_H

#if defined(__has_include) && !defined(SHALE_NO_PROBES)
#if __has_include(<sys/sdt.h>)
#include <sys/sdt.h>
#define SHALE_PROBES 1
#endif
#endif

#ifdef SHALE_PROBES
#define PROBE1(name, a) DTRACE_PROBE1(shale, name, a)
#define PROBE2(name, a, b) DTRACE_PROBE2(shale, name, a, b)
#define PROBE3(name, a, b, c) DTRACE_PROBE3(shale, name, a, b, c)
#define PROBE4(name, a, b, c, d) DTRACE_PROBE4(shale, name, a, b, c, d)
#else
#define PROBE1(name, a) ((void)sizeof(a))
#define PROBE2(name, a, b) ((void)(sizeof(a) + sizeof(b)))
#define PROBE3(name, a, b, c) ((void)(sizeof(a) + sizeof(b) + sizeof(c)))
#define PROBE4(name, a, b, c, d) ((void)(sizeof(a) + sizeof(b) + sizeof(c) + sizeof(d)))
#endif

#endif
