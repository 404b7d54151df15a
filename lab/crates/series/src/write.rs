// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes the series as git format-patch does: a cover letter, and one mail for each patch. The
//! same input gives the same bytes.

use crate::commits::Prepared;
use crate::git::Identity;
use crate::letter::{self, Sources};
use crate::{Error, Result, base, disk, patch};
use clap::Args;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Options of `lab series write`.
#[derive(Debug, Args)]
pub struct WriteArgs {
    /// The repository
    #[arg(long, value_name = "DIR", default_value = "/tph/repo")]
    pub repo: PathBuf,
    /// The pristine kernel
    #[arg(long, value_name = "DIR")]
    pub base: PathBuf,
    /// What the pristine kernel is, for the cover letter
    #[arg(long, value_name = "TEXT")]
    pub base_name: String,
    /// The commit that the pristine kernel is, for who applies the series
    #[arg(long, value_name = "ID")]
    pub base_commit: Option<String>,
    /// The author's name
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// The author's address
    #[arg(long, value_name = "ADDRESS")]
    pub email: String,
    /// When it is written, in seconds since 1970
    #[arg(long, value_name = "SECONDS")]
    pub date: i64,
    /// Add the author's Signed-off-by
    #[arg(long)]
    pub signoff: bool,
    /// The version of the series
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub version: u32,
    /// The mails of the former version, to say how this one differs
    #[arg(long, value_name = "DIR")]
    pub previous: Option<PathBuf>,
    /// Hashes of what the kernels would be built of now: whether the figures are of these sources
    #[arg(long, value_name = "HASH", value_delimiter = ' ')]
    pub inputs: Vec<String>,
    /// Directory for the mails; what is there is replaced
    #[arg(long, value_name = "DIR", default_value = "/tph/repo/out/series")]
    pub out: PathBuf,
}

/// Writes the series, and says so.
pub fn write(args: &WriteArgs, to: &mut dyn Write) -> Result<()> {
    let former = args.previous.as_deref().map(former).transpose()?;
    if former.is_some() && args.version < 2 {
        return Err(Error::FirstVersion);
    }
    let parent = args.out.parent().unwrap_or(Path::new("."));
    disk::create_dir(parent)?;
    let work = tempfile::Builder::new()
        .prefix(".series-")
        .tempdir_in(parent)
        .map_err(Error::io(parent))?;
    let letter = work.path().join("letter");
    let mut options = vec![
        "--cover-letter".to_owned(),
        "--cover-from-description=subject".to_owned(),
        format!("--description-file={}", letter.display()),
    ];
    if args.version >= 2 {
        options.push(format!("--reroll-count={}", args.version));
    }
    if args.signoff {
        options.push("--signoff".to_owned());
    }

    let identity = Identity {
        name: args.name.clone(),
        email: args.email.clone(),
        date: args.date,
    };
    let repository = work.path().join("repository");
    let others = former.as_deref().unwrap_or_default();
    let prepared = Prepared::new(&repository, &args.repo, &args.base, identity, others)?;
    if let Some(mails) = &former {
        apply_former(&prepared, mails, &args.base)?;
        options.push("--range-diff=base..previous".to_owned());
    }
    let series = prepared.commit()?;

    let base = match &args.base_commit {
        Some(commit) => format!("{} (commit {commit})", base::version(&args.base)?),
        None => format!("{} ({})", base::version(&args.base)?, args.base_name),
    };
    let sources = Sources {
        base: &base,
        numstat: &series
            .repository
            .run(["diff", "--numstat", "base", "series"])?,
        check: &args.repo.join("out/check/check.json"),
        bench: &args.repo.join("out/bench/bench.json"),
        inputs: &args.inputs,
    };
    let text = disk::read(&args.repo.join("patches/cover-letter"))?;
    disk::write(&letter, &letter::fill(&text, &sources)?)?;
    let mails = work.path().join("mails");
    let written = series.mail(&mails, &options)?;
    if let (Some(commit), Some(cover)) = (&args.base_commit, written.first()) {
        disk::write(
            cover,
            &format!("{}\nbase-commit: {commit}\n", disk::read(cover)?),
        )?;
    }
    put_in_place(&mails, &args.out)?;
    writeln!(
        to,
        "{}: {} patches and a cover letter, against {base}",
        args.out.display(),
        series.commits.len()
    )
    .map_err(Error::io("standard output"))
}

/// The mails of the former version that are patches.
fn former(dir: &Path) -> Result<Vec<PathBuf>> {
    let named = |path: &PathBuf, number: &str| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().contains(number)
    };
    let mut mails = patch::list(dir)?;
    if !mails.iter().any(|path| named(path, "0001-")) {
        return Err(Error::NoFormerSeries);
    }
    mails.retain(|path| !named(path, "0000-"));
    Ok(mails)
}

/// Makes the branch `previous` of the former version.
fn apply_former(prepared: &Prepared, mails: &[PathBuf], base: &Path) -> Result<()> {
    let repository = &prepared.repository;
    repository.run(["checkout", "--quiet", "-b", "previous", "base"])?;
    if let Some(why) = repository.refuses(mails)? {
        let base = base::version(base)?;
        return Err(Error::FormerSeries { base, why });
    }
    repository.run(["checkout", "--quiet", "series"]).map(drop)
}

/// Puts the mails where the former ones were. Whoever is interrupted has the one or the other.
fn put_in_place(mails: &Path, out: &Path) -> Result<()> {
    let old = out.with_extension("old");
    disk::remove_dir(&old)?;
    if disk::look(out)?.is_some() {
        fs::rename(out, &old).map_err(Error::io(out))?;
    }
    fs::rename(mails, out).map_err(Error::io(out))?;
    disk::remove_dir(&old)
}
