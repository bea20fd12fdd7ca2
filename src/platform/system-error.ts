import { Failure } from '../model/failure.ts'

/** What the system says no with (errno(3)), and what to do about it. */
const known: Readonly<Record<string, readonly [why: string, remedy: string]>> = {
  EACCES: ['permission denied', 'give this user the right to it, or run as another user'],
  EPERM: ['it is not permitted', 'give this user the right to it, or run as another user'],
  EROFS: ['the file system is read-only', 'mount it for writing, or use another folder'],
  ENOSPC: ['there is no space left', 'make room there'],
  EDQUOT: ['the quota is used up', 'make room there, or raise the quota'],
  EMFILE: ['too many files are open', 'raise the limit of open files (ulimit -n)'],
  ENFILE: ['too many files are open on this machine', 'raise fs.file-max, or see who holds them (lsof)'],
  EAGAIN: [
    'the system has no room for another process',
    'raise the limit of processes (ulimit -u, pids.max)',
  ],
  ENOMEM: ['there is no memory left', 'give Cairn, or its container, more memory'],
  EIO: ['the device failed', 'look at the log of the kernel (dmesg), and replace the disk'],
  ENOENT: ['there is no such file or folder', 'check the path'],
  ENOTDIR: ['a part of the path is no folder', 'check the path'],
  EISDIR: ['it is a folder', 'check the path'],
  ELOOP: ['the path leads through too many symbolic links', 'use the real path'],
  ENAMETOOLONG: ['the path is too long', 'use a shorter one'],
}

/** What the system refused, as a person should read it; null for other errors. `what` is what was being done, if that is known. */
export function systemFailure(error: unknown, what?: string, exit?: Failure['exit']): Failure | null {
  const code = codeOf(error)
  if (code === undefined) return null
  const { message, syscall, path } = error as NodeJS.ErrnoException
  const [why, remedy] = known[code] ?? [message, '']
  const place = path === undefined ? '' : ` ${path}`
  return new Failure({
    what: what ?? `the system refuses to ${syscall}${place}`,
    why: known[code] ? `${why} (${code})` : why,
    remedy,
    ...(exit === undefined ? {} : { exit }),
    cause: error,
  })
}

/** The name of the error with which the system refused something; undefined for other errors. */
export function codeOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error) || !('syscall' in error)) return undefined
  return typeof error.code === 'string' ? error.code : undefined
}
