import { readFileSync, readlinkSync } from 'node:fs'

/**
 * One process, told apart from every other that had or will have its number: a pid alone is reused, within days on a busy
 * machine and at once in a container, where each start is pid 1.
 */
export interface ProcessIdentity {
  readonly pid: number
  /** Clock ticks from boot to the start of the process, decimal: field 22 of proc_pid_stat(5). */
  readonly startTime: string
  /** `/proc/sys/kernel/random/boot_id`: pids and ticks of another boot mean nothing. */
  readonly bootId: string
  /** Inode of its PID namespace, pid_namespaces(7): a container has its own, in which the same numbers are others. */
  readonly pidNamespace: string
}

/** The identity of this process. Needs Linux's /proc. */
export function ownProcess(): ProcessIdentity {
  return {
    pid: process.pid,
    startTime: readStat('self').startTime,
    bootId: readBootId(),
    pidNamespace: readlinkSync('/proc/self/ns/pid'),
  }
}

/**
 * Whether that very process still runs. A zombie does not: it holds nothing, and stays for as long as its parent
 * neglects it. A process that exists but may not be looked at (`hidepid`) counts as alive.
 *
 * Both processes must be in one PID namespace: from another container every number means somebody else. Of such a
 * process only its heartbeat tells, see history-owners.ts.
 */
export function isAlive(identity: ProcessIdentity): boolean {
  if (identity.bootId !== readBootId()) return false
  try {
    const { state, startTime } = readStat(identity.pid)
    return startTime === identity.startTime && state !== 'Z' && state !== 'X'
  } catch {
    return isHidden(identity.pid)
  }
}

/** The state and start time of a process. The command name before them may hold spaces and parentheses. */
function readStat(pid: number | 'self'): { state: string; startTime: string } {
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1')
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return { state: fields[0] ?? '', startTime: fields[19] ?? '' }
}

function readBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()
}

/** Signal 0 asks for permission and existence without sending anything, kill(2). */
function isHidden(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return false
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}
