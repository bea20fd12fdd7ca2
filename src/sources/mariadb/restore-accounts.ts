import type { Context } from '../../model/context.ts'
import { asFailure } from '../../model/failure.ts'
import type { ArtifactRecord } from '../../model/manifest.ts'
import type { ArtifactReader } from '../../model/restore.ts'
import { cleanupContext } from '../../platform/run-context.ts'
import { parseAccounts, weightOf } from './account-script.ts'
import { type Account, accountKey, accountsThere, showAccount } from './accounts.ts'
import { askEach } from './ask.ts'
import type { Reached } from './server.ts'
import { copyAccounts } from './server-tables.ts'
import { quoteAccount, quoteName } from './sql.ts'

/** How long taking back what was made may take. */
const cleanupMs = 60_000

/** Of one kind; a user who may make no account hears it for each. */
const mostWarnings = 50

/** The accounts of an artifact. */
export async function accountsOf(artifact: ArtifactRecord, read: ArtifactReader): Promise<Account[]> {
  return await parseAccounts(read.open(artifact))
}

/**
 * Makes the accounts that a server has not. Those that are there are not touched. What the server refuses is a warning: the data
 * stands.
 */
export class NewAccounts {
  readonly warnings: string[] = []
  readonly #server: Reached
  #missing: readonly Account[]
  #made: readonly Account[] = []

  private constructor(server: Reached, missing: readonly Account[], warnings: readonly string[]) {
    this.#server = server
    this.#missing = missing
    this.warnings.push(...warnings)
  }

  /** Looks which are missing. Where the server's own may not be read none is made, and a warning says so. */
  static async among(accounts: readonly Account[], server: Reached, ctx: Context): Promise<NewAccounts> {
    if (accounts.length === 0) return new NewAccounts(server, [], [])
    try {
      const there = await accountsThere(server, ctx)
      const missing = accounts.filter(({ user, host }) => !there.has(accountKey(user, host)))
      return new NewAccounts(server, missing, [])
    } catch (error) {
      ctx.signal.throwIfAborted()
      const { why } = asFailure(error, '')
      return new NewAccounts(server, [], [`no account is created: the target's may not be read (${why})`])
    }
  }

  /** Before the definitions, whose definers they may be: the accounts, and what they may do in whole databases. */
  async make(ctx: Context): Promise<void> {
    const steps = this.#missing.flatMap(account => account.create.map(statement => ({ account, statement })))
    const refused = await this.#each(steps, ctx)
    this.#tell(refused.map(({ account, said }) => `${showAccount(account)} was not made: ${said}`))
    const failed = new Set(refused.map(({ account }) => account))
    this.#made = this.#missing = this.#missing.filter(account => !failed.has(account))
    await this.#grant(grant => weightOf(grant) === 'wide', ctx)
  }

  /** The same, for accounts that lie as tables in a database beside. */
  async copy(scratch: string, tables: ReadonlySet<string>, ctx: Context): Promise<void> {
    try {
      if (!tables.has('global_priv')) throw new Error('they are of a server older than MariaDB 10.4')
      this.#made = [...this.#made, ...(await copyAccounts(this.#server, scratch, ctx))]
    } catch (error) {
      ctx.signal.throwIfAborted()
      this.warnings.push(
        `the users of the dump, and their privileges, are not all restored: ${asFailure(error, '').why}`,
      )
    }
  }

  /** After the definitions: what they may do with single tables and routines, and as each other. */
  async finish(ctx: Context): Promise<void> {
    await this.#grant(grant => weightOf(grant) !== 'wide', ctx)
  }

  /** Takes back what was made, also when we were told to stop; what cannot be taken back is told. */
  async undo(outer: Context): Promise<void> {
    if (this.#made.length === 0) return
    const drops = this.#made.flatMap(account => {
      const { user, host, role, create } = account
      const statement = `DROP ${role ? `ROLE ${quoteName(user)}` : `USER ${quoteAccount(user, host)}`}`
      return create.length > 0 ? [{ account, statement }] : []
    })
    try {
      const left = await this.#each(drops, cleanupContext(outer, cleanupMs))
      if (left.length === 0) return
      throw new Error(left.map(({ account, said }) => `${showAccount(account)}: ${said}`).join('; '))
    } catch (error) {
      const what = 'accounts that were made could not be removed again'
      outer.emit({ type: 'warning', what, why: (error as Error).message, remedy: 'drop them by hand' })
    }
  }

  async #grant(isWanted: (grant: string) => boolean, ctx: Context): Promise<void> {
    const steps = this.#made.flatMap(account =>
      account.grants.filter(isWanted).map(statement => ({ account, statement })),
    )
    this.#tell(
      (await this.#each(steps, ctx)).map(({ account, statement, said }) =>
        statement.startsWith('REVOKE ')
          ? `${showAccount(account)} may do more than before, because a REVOKE was refused (SET PERSIST partial_revokes = ON): ${said}`
          : `a privilege of ${showAccount(account)} was refused: ${said}`,
      ),
    )
  }

  #tell(warnings: readonly string[]): void {
    this.warnings.push(...warnings.slice(0, mostWarnings))
    const more = warnings.length - mostWarnings
    if (more > 0) this.warnings.push(`${more} more statements for accounts were refused`)
  }

  /** Carries out one after the other; gives those that the server refused. */
  async #each<S extends Step>(steps: readonly S[], ctx: Context): Promise<(S & { said: string })[]> {
    if (steps.length === 0) return []
    const { flavour } = this.#server.connection
    // Else a GRANT would make an account without a password where it is not there.
    const mode = flavour === 'mariadb' ? `SET SESSION sql_mode = 'NO_AUTO_CREATE_USER'` : 'DO 0'
    const { errors } = await askEach(this.#server, [mode, ...steps.map(({ statement }) => statement)], ctx)
    return errors.flatMap(({ said, question }) => {
      const step = steps[question - 1]
      return step ? [{ ...step, said }] : []
    })
  }
}

interface Step {
  readonly account: Account
  readonly statement: string
}
