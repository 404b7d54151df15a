// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which patch brings which file of the repository's slice of a kernel tree.

use crate::patch::Patch;
use crate::{Error, Result, git};
use std::path::Path;

/// The folders of which only the series brings files into a kernel tree.
const FOLDERS: [&str; 6] = [
    "rust",
    "drivers",
    "samples",
    "include",
    "Documentation",
    "tools",
];

/// The files of the slice.
pub fn slice(repo: &Path) -> Result<Vec<String>> {
    git::list_files(repo, &FOLDERS)
}

/// For each patch the files that it brings. It is an error if not exactly one patch claims a file,
/// and if a patch claims what is not there.
pub fn assign(patches: &[Patch], slice: &[String]) -> Result<Vec<Vec<String>>> {
    let claims: Vec<(usize, &str)> = patches
        .iter()
        .enumerate()
        .flat_map(|(index, patch)| {
            patch
                .claims
                .iter()
                .map(move |claim| (index, claim.as_str()))
        })
        .collect();
    let mut files = vec![Vec::new(); patches.len()];
    for file in slice {
        let mut by = claims.iter().filter(|(_, claim)| covers(claim, file));
        let Some(&(index, _)) = by.next() else {
            return Err(Error::Unclaimed(file.clone()));
        };
        if let Some(&(second, _)) = by.next() {
            return Err(Error::ClaimedTwice {
                file: file.clone(),
                first: patches[index].name.clone(),
                second: patches[second].name.clone(),
            });
        }
        files[index].push(file.clone());
    }
    match claims
        .iter()
        .find(|(_, claim)| !slice.iter().any(|file| covers(claim, file)))
    {
        Some(&(index, claim)) => Err(Error::ClaimsNothing {
            patch: patches[index].name.clone(),
            claim: claim.to_owned(),
        }),
        None => Ok(files),
    }
}

/// Whether `claim` is this file, or a folder above it.
fn covers(claim: &str, file: &str) -> bool {
    claim == file || claim.ends_with('/') && file.starts_with(claim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(name: &str, claims: &[&str]) -> Patch {
        Patch {
            path: name.into(),
            name: name.into(),
            message: String::new(),
            claims: claims.iter().map(|&claim| claim.into()).collect(),
            touches: Vec::new(),
            symbols: Vec::new(),
        }
    }

    fn assigned(
        patches: &[Patch],
        slice: &[&str],
    ) -> std::result::Result<Vec<Vec<String>>, String> {
        let slice: Vec<_> = slice.iter().map(|&file| file.into()).collect();
        assign(patches, &slice).map_err(|error| error.to_string())
    }

    #[test]
    fn a_claim_is_a_file_or_a_folder() {
        let patches = [patch("1", &["drivers/new/"]), patch("2", &["rust/a.rs"])];
        let slice = ["drivers/new/a.c", "drivers/new/b/c.c", "rust/a.rs"];
        assert_eq!(
            assigned(&patches, &slice).unwrap(),
            [
                vec!["drivers/new/a.c", "drivers/new/b/c.c"],
                vec!["rust/a.rs"]
            ]
        );
    }

    #[test]
    fn a_file_that_no_patch_claims_is_named() {
        // Neither a folder without its slash nor the beginning of a name is a claim of it.
        for claim in ["drivers/new", "drivers/ne"] {
            let error = assigned(&[patch("1", &[claim])], &["drivers/new/a.c"]).unwrap_err();
            assert_eq!(
                error,
                "drivers/new/a.c is claimed by no patch; add a line \"Adds: drivers/new/a.c\" to one in patches/"
            );
        }
    }

    #[test]
    fn a_file_that_two_patches_claim_is_named() {
        let patches = [
            patch("1", &["drivers/new/"]),
            patch("2", &["drivers/new/a.c"]),
        ];
        assert_eq!(
            assigned(&patches, &["drivers/new/a.c"]).unwrap_err(),
            "drivers/new/a.c is claimed by two patches, 1 and 2; leave it to one of them"
        );
    }

    #[test]
    fn a_claim_of_nothing_is_named() {
        let patches = [patch("1", &["drivers/new/", "drivers/gone.c"])];
        assert_eq!(
            assigned(&patches, &["drivers/new/a.c"]).unwrap_err(),
            "1 claims drivers/gone.c, which is not there; remove that line"
        );
    }
}
